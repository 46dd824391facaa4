"""`python -m tcm_jax.train`: see `tcm_jax.commands.train`."""

import runpy

if __name__ == "__main__":  # its flags are absl's, whose help tells of the program that runs
    runpy.run_module("tcm_jax.commands.train", run_name="__main__", alter_sys=True)
