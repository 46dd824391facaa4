"""The sub-commands of `tcm-jax`, one file each; each also runs as `python -m tcm_jax.NAME`."""
