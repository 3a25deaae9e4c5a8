"""Models: one factory, one builder, one file per architecture."""

from bert4kexue import _keras as _keras
from bert4kexue.models.architecture import Architecture as Architecture
from bert4kexue.models.architecture import WeightRow as WeightRow
from bert4kexue.models.architectures import ARCHITECTURES as ARCHITECTURES
from bert4kexue.models.architectures import find_architecture as find_architecture
from bert4kexue.models.builder import Transformer as Transformer
from bert4kexue.models.builder import builder_class as builder_class
from bert4kexue.models.config import ModelConfig as ModelConfig
from bert4kexue.models.factory import build_transformer_model as build_transformer_model
from bert4kexue.models.prediction import SortedPredictor as SortedPredictor

BERT = builder_class(find_architecture("bert"), "BERT")
RoFormer = builder_class(find_architecture("roformer"), "RoFormer")
