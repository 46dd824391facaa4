"""TCM with DBNet, PAN and FCENet: families, training, evaluation, and the Detector."""
