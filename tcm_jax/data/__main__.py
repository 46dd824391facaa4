"""`python -m tcm_jax.data`: see `tcm_jax.commands.data`."""

import sys

from tcm_jax.commands.data import main

if __name__ == "__main__":
    sys.exit(main())
