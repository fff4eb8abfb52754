"""Direct ptychography: the phase from the bright field alone, with a lens measured in the data."""
