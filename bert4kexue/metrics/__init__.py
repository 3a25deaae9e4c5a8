"""Metrics for `compile`: one file each."""

from bert4kexue import _keras as _keras
from bert4kexue.metrics.spearman import SpearmanCorrelation as SpearmanCorrelation
