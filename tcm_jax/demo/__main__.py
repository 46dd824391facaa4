"""`python -m tcm_jax.demo`: see `tcm_jax.commands.demo`."""

from tcm_jax.commands.demo import main

if __name__ == "__main__":
    main()
