"""`python -m tcm_jax.predict`: see `tcm_jax.commands.predict`."""

import sys

from tcm_jax.commands.predict import main

if __name__ == "__main__":
    sys.exit(main())
