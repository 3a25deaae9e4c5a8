"""Mathematics on tensors: pure functions on keras.ops, one idea per file."""

from bert4kexue import _keras as _keras
