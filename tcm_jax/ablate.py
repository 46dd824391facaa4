"""`python -m tcm_jax.ablate`: see `tcm_jax.commands.ablate`."""

from tcm_jax.commands.ablate import main

if __name__ == "__main__":
    main()
