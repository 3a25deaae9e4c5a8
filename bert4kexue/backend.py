"""What bert4keras scripts import from ``backend``, as far as it exists on Keras 3."""

from bert4kexue._keras import keras as keras
from bert4kexue._keras import ops as ops
from bert4kexue.ops.activations import gelu_erf as gelu_erf
from bert4kexue.ops.activations import gelu_tanh as gelu_tanh
from bert4kexue.ops.attention import attention_normalize as attention_normalize
from bert4kexue.ops.positions import (
    apply_rotary_position_embeddings as apply_rotary_position_embeddings,
)
from bert4kexue.ops.positions import sinusoidal_embeddings as sinusoidal_embeddings
