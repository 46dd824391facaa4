"""`python -m tcm_jax.doctor`: see `tcm_jax.commands.doctor`."""

from tcm_jax.commands.doctor import main

if __name__ == "__main__":
    main()
