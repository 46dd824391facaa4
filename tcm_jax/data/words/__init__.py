"""Crops of words with their labels, for recognizers."""
