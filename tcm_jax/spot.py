"""`python -m tcm_jax.spot`: see `tcm_jax.commands.spot`."""

import sys

from tcm_jax.commands.spot import main

if __name__ == "__main__":
    sys.exit(main())
