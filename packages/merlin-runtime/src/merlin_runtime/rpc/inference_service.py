"""``inference.GRPCInferenceService``: the Open Inference Protocol V2 over gRPC."""

from __future__ import annotations

from typing import Any

import grpc
from grpc import aio

from merlin_runtime import __version__
from merlin_runtime.errors import ServingError
from merlin_runtime.models.port import KINDS_OF_ROWS
from merlin_runtime.rpc.calls import STATUS_CODES, PredictionCalls, service_handler
from merlin_runtime.rpc.inference_codec import InferCodec, check_model
from merlin_runtime.rpc.schemas import INFERENCE
from merlin_runtime.serving.lifecycle import Lifecycle
from merlin_runtime.serving.v2_metadata import EXTENSIONS, model_metadata

SERVICE = "GRPCInferenceService"


class InferenceService:
    """Answers for the one model called ``name``."""

    def __init__(
        self, name: str, version: str, lifecycle: Lifecycle, calls: PredictionCalls
    ) -> None:
        self._name = name
        self._version = version
        self._lifecycle = lifecycle
        self._calls = calls

    def handler(self) -> grpc.GenericRpcHandler:
        behaviours = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._infer,
        }
        return service_handler(INFERENCE, SERVICE, behaviours, raw=("ModelInfer",))

    async def _server_live(self, request: Any, context: Any) -> Any:
        del request, context
        return INFERENCE["ServerLiveResponse"](live=True)

    async def _server_ready(self, request: Any, context: Any) -> Any:
        del request, context
        return INFERENCE["ServerReadyResponse"](ready=self._lifecycle.ready)

    async def _model_ready(self, request: Any, context: Any) -> Any:
        await self._check(request, context)
        return INFERENCE["ModelReadyResponse"](ready=self._lifecycle.ready)

    async def _server_metadata(self, request: Any, context: Any) -> Any:
        del request, context
        return INFERENCE["ServerMetadataResponse"](
            name="merlin", version=__version__, extensions=EXTENSIONS
        )

    async def _model_metadata(self, request: Any, context: Any) -> Any:
        await self._check(request, context)
        try:
            metadata = model_metadata(
                self._name, self._version, self._lifecycle.model, self._lifecycle.signature
            )
        except ServingError as error:
            await _abort(context, error)
            raise
        return INFERENCE["ModelMetadataResponse"](**metadata)

    async def _infer(self, body: bytes, context: aio.ServicerContext[Any, Any]) -> bytes:
        model = self._lifecycle.model
        of_rows = model is not None and model.kind in KINDS_OF_ROWS
        codec = InferCodec(self._name, self._version, of_rows=of_rows)
        return await self._calls.answer(body, context, codec)

    async def _check(self, request: Any, context: Any) -> None:
        try:
            check_model(request.name, request.version, self._name, self._version)
        except ServingError as error:
            await _abort(context, error)


async def _abort(context: Any, error: ServingError) -> None:
    code = STATUS_CODES.get(error.status, grpc.StatusCode.INTERNAL)
    await context.abort(code, error.message)
