"""`python -m tcm_jax.info`: see `tcm_jax.commands.info`."""

import sys

from tcm_jax.commands.info import main

if __name__ == "__main__":
    sys.exit(main())
