"""bert4keras's `snippets` by name: explicit re-exports of what bert4kexue has of them."""

from bert4kexue.decoding.autoregressive import AutoRegressiveDecoder as AutoRegressiveDecoder
from bert4kexue.training.data import DataGenerator as DataGenerator
from bert4kexue.training.data import sequence_padding as sequence_padding
