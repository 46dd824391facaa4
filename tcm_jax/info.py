"""`python -m tcm_jax.info`: see `tcm_jax.commands.info`."""

from tcm_jax.commands.info import main

if __name__ == "__main__":
    main()
