"""Small trained networks, as data of the package: `restoration.onnx` (see its model card)."""
