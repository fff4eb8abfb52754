"""Images of microscopes restored offline: files, stacks and folders, repeated frames summed."""
