"""Training data and the network of AIRPI: exit waves from groups of diffraction patterns."""
