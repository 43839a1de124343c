"""The data sets that people have on disk: one module each."""
