"""Data sets of crops and of annotated images: reading, checking, converting, and batches for training."""
