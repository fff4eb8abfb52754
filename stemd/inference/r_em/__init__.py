"""The published networks of the package `tk_r_em` as ONNX, from the weights the user has."""
