"""Layers, under the names that bert4keras gave them."""

from bert4kexue import _keras as _keras
from bert4kexue.layers.attention import KeyValueCache as KeyValueCache
from bert4kexue.layers.attention import MultiHeadAttention as MultiHeadAttention
from bert4kexue.layers.attention_masks import DocumentMask as DocumentMask
from bert4kexue.layers.attention_masks import LanguageModelMask as LanguageModelMask
from bert4kexue.layers.attention_masks import MaskScores as MaskScores
from bert4kexue.layers.attention_masks import (
    UnifiedLanguageModelMask as UnifiedLanguageModelMask,
)
from bert4kexue.layers.embeddings import Embedding as Embedding
from bert4kexue.layers.embeddings import PositionEmbedding as PositionEmbedding
from bert4kexue.layers.embeddings import (
    SinusoidalPositionEmbedding as SinusoidalPositionEmbedding,
)
from bert4kexue.layers.feed_forward import FeedForward as FeedForward
from bert4kexue.layers.linear_attention import LinearAttention as LinearAttention
from bert4kexue.layers.loss import Loss as Loss
from bert4kexue.layers.merging import Add as Add
from bert4kexue.layers.merging import Concatenate1D as Concatenate1D
from bert4kexue.layers.merging import FirstToken as FirstToken
from bert4kexue.layers.normalization import LayerNormalization as LayerNormalization
from bert4kexue.layers.normalization import ScaleOffset as ScaleOffset
from bert4kexue.layers.pooling import GlobalAveragePooling1D as GlobalAveragePooling1D
from bert4kexue.layers.pooling import GlobalMaxPooling1D as GlobalMaxPooling1D
from bert4kexue.layers.random_projection import RandomProjection as RandomProjection
from bert4kexue.layers.vae import GaussianSampling as GaussianSampling
from bert4kexue.layers.vae import StandardNormalKL as StandardNormalKL
