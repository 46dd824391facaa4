"""`python -m tcm_jax.evaluate`: see `tcm_jax.commands.evaluate`."""

import sys

from tcm_jax.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
