"""Servers that speak TF Serving's two protocols, over an export that was loaded in this process.

TF Serving itself is not installable here. These answer by what its protocols are documented to be:
the gRPC side by the service classes of tensorflow-serving-api, the REST side by the page on the
RESTful API (columnar form: ``inputs`` in, ``outputs`` out, one output without its name, errors as
``{"error": message}`` with status 400).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import tensorflow as tf

from bert4kexue.serving.service import versions


def signatures(base: Path) -> Mapping[str, Any]:
    """Those of the newest version below a model's folder, which is the one TF Serving takes."""
    return tf.saved_model.load(str(base / str(versions(base)[-1]))).signatures


def inputs_of(signature: Any) -> dict[str, Any]:
    """Tensor specifications by the input's name, as the SignatureDef has it."""
    return {spec.name: spec for spec in signature.structured_input_signature[1].values()}


@contextmanager
def rest_server(base: Path) -> Iterator[str]:
    """Serve ``/v1/models/NAME:predict``; gives ``host:port``."""
    served = signatures(base)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = 400, {"error": f"unknown path {self.path}"}
            if self.path == f"/v1/models/{base.name}:predict":
                signature = served[body.get("signature_name", "serving_default")]
                try:
                    given = {
                        name: tf.constant(body["inputs"][name], spec.dtype)
                        for name, spec in inputs_of(signature).items()
                    }
                    outputs = {k: v.numpy().tolist() for k, v in signature(**given).items()}
                    one = next(iter(outputs.values())) if len(outputs) == 1 else outputs
                    status, answer = 200, {"outputs": one}
                except tf.errors.InvalidArgumentError as error:
                    answer = {"error": error.message}
            content = json.dumps(answer, default=bytes.decode).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def grpc_server(base: Path) -> Iterator[str]:
    """Serve ``tensorflow.serving.PredictionService/Predict``; gives ``host:port``."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    served = signatures(base)

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
            if request.model_spec.name != base.name:
                context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.model_spec.name}")
            name = request.model_spec.signature_name or "serving_default"
            signature = served[name]
            given = {k: tf.constant(tf.make_ndarray(v)) for k, v in request.inputs.items()}
            if given.keys() != inputs_of(signature).keys():
                context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"inputs are {sorted(given)}, not {sorted(inputs_of(signature))}",
                )
            try:
                outputs = signature(**given)
            except tf.errors.InvalidArgumentError as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
            response = predict_pb2.PredictResponse()
            response.model_spec.signature_name = name
            for key, value in outputs.items():
                response.outputs[key].CopyFrom(tf.make_tensor_proto(value.numpy()))
            return response

    server = grpc.server(ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
