"""What is known of a noisy scan image without any network: waves, noise, moved lines."""
