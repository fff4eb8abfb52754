"""A virtual Merlin camera."""
