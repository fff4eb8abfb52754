"""Scores of the phase images: simulated scans of known specimens, and every method on them."""
