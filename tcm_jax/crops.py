"""`python -m tcm_jax.crops`: see `tcm_jax.commands.crops`."""

import sys

from tcm_jax.commands.crops import main

if __name__ == "__main__":
    sys.exit(main())
