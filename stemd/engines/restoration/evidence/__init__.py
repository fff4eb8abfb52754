"""What the recorded image says of its restored one: where they differ by more than noise."""
