"""What event cameras share: one clock, scans found in it, clusters; bytes stay with the camera."""
