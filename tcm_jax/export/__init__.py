"""Models as StableHLO programs, which run where JAX and NumPy are and nothing else of this package.

`programs` makes them, `compare` runs them in a process of their own beside the model, `run` is the script that is put
beside the programs and reads them, and `__main__` is the command.
"""
