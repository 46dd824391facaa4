"""A local web page that reads the text in photos: `tcm-jax demo`."""
