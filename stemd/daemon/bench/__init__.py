"""What this machine can do, and how near stemd comes to it. Method: benchmarks/README.md."""
