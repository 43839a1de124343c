"""Renders labelled road scenes."""
