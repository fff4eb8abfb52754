"""Scores of direct ptychography and of the measured optics on the virtual microscope."""
