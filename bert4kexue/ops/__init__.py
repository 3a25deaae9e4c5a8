"""Mathematics on tensors: pure functions on keras.ops, one idea per file."""
