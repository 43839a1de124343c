"""How good a model is, where it errs, and whether it has collapsed."""
