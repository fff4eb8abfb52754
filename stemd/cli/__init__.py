"""What a person types: one module a command with EXAMPLE, `configure` for its arguments, `run`."""
