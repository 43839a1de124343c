"""A trained model at work: the predictor, its inputs, its outputs."""
