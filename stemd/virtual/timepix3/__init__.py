"""A virtual Timepix3 camera."""
