"""What a GPU does with stemd's networks, with or without TensorRT: `python -m benchmarks.gpu`."""
