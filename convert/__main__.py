"""`python -m convert` in a checkout: see `tcm_jax.convert`."""

import sys

from tcm_jax.convert.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
