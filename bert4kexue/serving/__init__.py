"""What leaves Python: models as SavedModels."""

from bert4kexue.serving.check import check_export as check_export
from bert4kexue.serving.export import Endpoint as Endpoint
from bert4kexue.serving.export import Signature as Signature
from bert4kexue.serving.export import default_signature as default_signature
from bert4kexue.serving.export import export_saved_model as export_saved_model
from bert4kexue.serving.graph_tokenizer import GraphTokenizer as GraphTokenizer
from bert4kexue.serving.service import export_service as export_service
from bert4kexue.serving.signatures import SIGNATURES as SIGNATURES
from bert4kexue.serving.task import Task as Task
