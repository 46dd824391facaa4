"""Synthetic text: rendered words and scenes, with the fonts, materials and camera effects they are made of."""
