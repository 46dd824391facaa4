"""`python -m convert` in a checkout: see `tcm_jax.commands.convert`."""

import sys

from tcm_jax.commands.convert import main

if __name__ == "__main__":
    sys.exit(main())
