"""How parts are joined, supervised, published and kept: no byte layout, no equation."""
