"""``grpc.health.v1.Health``, for Kubernetes' gRPC probes and for balancing clients."""

from __future__ import annotations

import asyncio
from typing import Any, AsyncIterator, Sequence

import grpc

from merlin_runtime.rpc.calls import service_handler
from merlin_runtime.rpc.schemas import HEALTH
from merlin_runtime.serving.lifecycle import Lifecycle

_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = 1, 2, 3


class Health:
    """The server as a whole (``""``) and each of ``services`` are ready together."""

    def __init__(self, lifecycle: Lifecycle, services: Sequence[str]) -> None:
        self._lifecycle = lifecycle
        self._known = {"", *services}
        self._changed = asyncio.Event()
        self._closed = False
        lifecycle.on_change(self._tell)

    def handler(self) -> grpc.GenericRpcHandler:
        return service_handler(HEALTH, "Health", {"Check": self._check, "Watch": self._watch})

    def close(self) -> None:
        """End all watches, which would otherwise hold a stopping server."""
        self._closed = True
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _status(self, service: str) -> Any:
        if service not in self._known:
            return HEALTH["HealthCheckResponse"](status=_SERVICE_UNKNOWN)
        status = _SERVING if self._lifecycle.ready else _NOT_SERVING
        return HEALTH["HealthCheckResponse"](status=status)

    async def _check(self, request: Any, context: Any) -> Any:
        if request.service not in self._known:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"There is no service {request.service!r} here."
            )
        return self._status(request.service)

    async def _watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Yield the status and each other one that follows. An unknown service may appear later,
        says the protocol, so it is no error here."""
        del context
        told = None
        while not self._closed:
            changed, status = self._changed, self._status(request.service)
            if status != told:
                yield status
                told = status
            else:
                await changed.wait()
