"""The official metrics and what shows a collapse; no model."""
