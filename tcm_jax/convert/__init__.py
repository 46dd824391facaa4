"""PyTorch checkpoints to model directories and back; the command is `tcm_jax.commands.convert`."""
