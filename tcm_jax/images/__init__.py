"""Images: decoding, the inputs of the Python API, padding for detectors, fonts, and drawing of results."""
