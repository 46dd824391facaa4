"""`python -m tcm_jax`: the command `tcm-jax`, see `tcm_jax.commands.main`."""

import sys

from tcm_jax.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
