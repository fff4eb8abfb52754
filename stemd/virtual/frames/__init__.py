"""A virtual camera for whatever frame camera brings an encoder."""
