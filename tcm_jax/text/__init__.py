"""Character sets, CLIP's tokenizer on host and device, expected characters and words."""
