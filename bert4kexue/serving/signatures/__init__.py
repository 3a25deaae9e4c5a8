"""What can be asked of a served model: one file each, a function that makes it.

A question of one forward pass is a `Task`, which `export_service` serves in both forms, ids and
strings. What loops over a model (generation, densities) is an `Endpoint`, written as it is.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from bert4kexue.serving.export import Endpoint
from bert4kexue.serving.signatures.classification import classification as classification
from bert4kexue.serving.signatures.density import log_prob as log_prob
from bert4kexue.serving.signatures.filling import filling as filling
from bert4kexue.serving.signatures.generation import (
    constrained_generation as constrained_generation,
)
from bert4kexue.serving.signatures.knowledge import knowledge_answers as knowledge_answers
from bert4kexue.serving.signatures.pointer import pointer as pointer
from bert4kexue.serving.signatures.similarity import cosine as cosine
from bert4kexue.serving.signatures.similarity import sentence_vectors as sentence_vectors
from bert4kexue.serving.signatures.tagging import tagging as tagging
from bert4kexue.serving.signatures.token_vectors import token_vectors as token_vectors
from bert4kexue.serving.signatures.zero_shot import zero_shot as zero_shot
from bert4kexue.serving.task import Task

SIGNATURES: Mapping[str, Callable[..., Task | Endpoint]] = MappingProxyType(
    {
        "token_vectors": token_vectors,
        "sentence_vectors": sentence_vectors,
        "cosine": cosine,
        "classification": classification,
        "zero_shot": zero_shot,
        "tagging": tagging,
        "filling": filling,
        "pointer": pointer,
        "knowledge_answers": knowledge_answers,
        "constrained_generation": constrained_generation,
        "log_prob": log_prob,
    }
)
