"""What a user writes: the config file, live settings, session plans."""
