"""Many frames of one place: how each has moved, and their sum with this undone."""
