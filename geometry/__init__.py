"""Pure tensor geometry: curves, slots, decoding, the rows of the input."""
