"""Import Keras, and say what to install where it finds no backend.

The packages that need Keras import this file before anything else, so that a user without a backend
reads one sentence instead of a trace through Keras's own modules.
"""

try:
    import keras as keras
    from keras import ops as ops
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in {"tensorflow", "jax", "jaxlib", "torch"}:
        raise
    raise ImportError(
        f"Keras needs a backend and could not import {error.name!r}. "
        "Install one: pip install 'bert4kexue[tensorflow]' (the default), 'bert4kexue[jax]' or "
        "'bert4kexue[torch]'; for the last two also set the environment variable "
        "KERAS_BACKEND=jax or KERAS_BACKEND=torch."
    ) from error
