"""Finding and reading all text of an image: Spotter, crops, reading order, results, files."""
