"""Lanes and charts, drawn."""
