"""Models as StableHLO programs, which run with JAX, flatbuffers and NumPy only.

`programs` makes them, `compare` runs them and the model on the same images, and `run` is the script that is copied to
the folder of the programs and loads them.
"""
