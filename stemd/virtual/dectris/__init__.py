"""A virtual DECTRIS camera and its detector control unit."""
