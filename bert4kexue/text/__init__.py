"""From characters to token ids and back, with NumPy and the standard library only."""
