"""The training loop and its parts: tasks, optimizers, meshes, checkpoints and logs; knows no task by name."""
