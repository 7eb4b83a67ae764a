"""The gRPC port: which services are there, and how they come and go."""

from __future__ import annotations

from typing import Any, List

import grpc
from grpc import aio

from merlin_runtime.errors import AddressUnavailable
from merlin_runtime.rpc.calls import PredictionCalls
from merlin_runtime.rpc.health import Health
from merlin_runtime.rpc.inference_service import SERVICE as INFERENCE_SERVICE
from merlin_runtime.rpc.inference_service import InferenceService
from merlin_runtime.rpc.reflection import PACKAGES, Reflection
from merlin_runtime.rpc.schemas import HEALTH, INFERENCE, reflection
from merlin_runtime.serving.access_log import AccessLog
from merlin_runtime.serving.lifecycle import Lifecycle
from merlin_runtime.serving.metrics import ServingMetrics
from merlin_runtime.serving.tracing import Tracing
from merlin_runtime.settings import UPI, Settings

# Of a message there is more than its tensors.
_ROOM_FOR_NAMES = 64 * 1024


class RpcServer:
    """Serves beside the HTTP server, on its event loop, from the same lifecycle and predictor.

    A deployment speaks one protocol: UPI where ``settings.protocol`` says so, else the Open
    Inference Protocol. Health and reflection are there with either.
    """

    def __init__(
        self,
        settings: Settings,
        lifecycle: Lifecycle,
        metrics: ServingMetrics,
        *,
        access_log: AccessLog,
        tracing: Tracing,
    ) -> None:
        self._settings = settings
        calls = PredictionCalls(
            settings.name, lifecycle, metrics, access_log=access_log, tracing=tracing
        )
        service, handler, files = _protocol(settings, lifecycle, calls)
        self._health = Health(lifecycle, [service])
        described = [*files, HEALTH.file, *(reflection(package).file for package in PACKAGES)]
        options = {
            "grpc.max_receive_message_length": settings.max_body_bytes + _ROOM_FOR_NAMES,
            "grpc.max_send_message_length": -1,
            "grpc.so_reuseport": 0,
            **settings.grpc_options,
        }
        self._server = aio.server(options=list(options.items()))
        self._server.add_generic_rpc_handlers(
            (handler, self._health.handler(), *Reflection(described).handlers())
        )

    async def start(self) -> int:
        """Open the port and return its number. Raises `AddressUnavailable`."""
        host, port = self._settings.host, self._settings.grpc_port
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = self._server.add_insecure_port(address)
        except RuntimeError:
            bound = 0  # as older versions answer
        if bound == 0:
            raise AddressUnavailable(f"Cannot listen on {address} for gRPC.")
        await self._server.start()
        return bound

    async def stop(self, grace: float) -> None:
        """Accept nothing more, let calls end within ``grace`` seconds, then cancel them."""
        self._health.close()
        await self._server.stop(grace)


def _protocol(settings: Settings, lifecycle: Lifecycle, calls: PredictionCalls) -> Any:
    """Return the service's full name, its handler, and the files that describe it."""
    handler: grpc.GenericRpcHandler
    files: List[Any]
    if settings.protocol == UPI:
        # The model's environment has it: that was looked for before anything started.
        from merlin_runtime.rpc import upi_service  # noqa: PLC0415

        return upi_service.SERVICE, upi_service.UpiService(calls).handler(), upi_service.files()
    handler = InferenceService(settings.name, settings.version, lifecycle, calls).handler()
    files = [INFERENCE.file]
    return f"{INFERENCE.package}.{INFERENCE_SERVICE}", handler, files
