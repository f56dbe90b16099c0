"""Data sets: splits, files, and what `initbench data` does with them."""
