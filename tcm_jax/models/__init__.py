"""CLIP, CLIP4STR and TCM as Flax modules, without input, output or training."""
