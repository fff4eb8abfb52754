"""Scan lines from line pulses: what each pulse says of time and count is weighed, not believed."""
