"""bert4kexue: original Chinese checkpoints on Keras 3, and eight methods built on them."""

__version__ = "0.12.0"
