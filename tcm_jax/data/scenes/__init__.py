"""Annotated images for detectors: formats, sources, ArrayRecord files, checks and augmentation."""
