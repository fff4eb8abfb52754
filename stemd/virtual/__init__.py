"""A virtual microscope: specimens, diffraction physics and cameras that know the truth."""
