"""`python -m tcm_jax.plan`: see `tcm_jax.commands.plan`."""

import runpy

if __name__ == "__main__":  # its flags are absl's, whose help tells of the program that runs
    runpy.run_module("tcm_jax.commands.plan", run_name="__main__", alter_sys=True)
