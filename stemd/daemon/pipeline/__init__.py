"""One camera's pipeline: its reader, scans, state and commands."""
