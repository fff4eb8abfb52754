"""Several links that bring the frames of one scan, made to one camera."""
