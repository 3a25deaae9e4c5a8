"""What leaves Python: models as SavedModels."""

from bert4kexue.serving.export import Endpoint as Endpoint
from bert4kexue.serving.export import Signature as Signature
from bert4kexue.serving.export import default_signature as default_signature
from bert4kexue.serving.export import export_saved_model as export_saved_model
