"""What can be asked of a served model: one file each, a function that makes a `Task`."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from bert4kexue.serving.signatures.classification import classification as classification
from bert4kexue.serving.signatures.filling import filling as filling
from bert4kexue.serving.signatures.pointer import pointer as pointer
from bert4kexue.serving.signatures.similarity import cosine as cosine
from bert4kexue.serving.signatures.similarity import sentence_vectors as sentence_vectors
from bert4kexue.serving.signatures.tagging import tagging as tagging
from bert4kexue.serving.signatures.token_vectors import token_vectors as token_vectors
from bert4kexue.serving.task import Task

SIGNATURES: Mapping[str, Callable[..., Task]] = MappingProxyType(
    {
        "token_vectors": token_vectors,
        "sentence_vectors": sentence_vectors,
        "cosine": cosine,
        "classification": classification,
        "tagging": tagging,
        "filling": filling,
        "pointer": pointer,
    }
)
