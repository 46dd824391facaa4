"""`python -m tcm_jax.doctor`: see `tcm_jax.commands.doctor`."""

import sys

from tcm_jax.commands.doctor import main

if __name__ == "__main__":
    sys.exit(main())
