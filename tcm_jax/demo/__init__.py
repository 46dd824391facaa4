"""A local web page that reads the text in images: `tcm-jax demo`."""
