"""CLIP4STR: model and loss, training, evaluation, and the Recognizer."""
