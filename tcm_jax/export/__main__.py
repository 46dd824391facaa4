"""`python -m tcm_jax.export`: see `tcm_jax.commands.export`."""

import sys

from tcm_jax.commands.export import main

if __name__ == "__main__":
    sys.exit(main())
