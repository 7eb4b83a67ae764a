"""One process serving one model: load beside a live port, serve, drain."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Iterator, Optional, Type, cast

import uvicorn

from merlin_runtime.errors import AddressUnavailable, ModelLoadFailed
from merlin_runtime.models.loading import load_model
from merlin_runtime.models.port import Model
from merlin_runtime.models.signature import Signature, signature_of
from merlin_runtime.serving.access_log import AccessLog
from merlin_runtime.serving.application import Application
from merlin_runtime.serving.cold_routes import ColdRoutes
from merlin_runtime.serving.connection import Limits, ServedConnection
from merlin_runtime.serving.hot_lane import HotLane
from merlin_runtime.serving.lifecycle import Lifecycle
from merlin_runtime.serving.metrics import ServingMetrics
from merlin_runtime.serving.model_observer import ModelObserver
from merlin_runtime.serving.pace import Pace
from merlin_runtime.serving.predict_route import PredictRoute
from merlin_runtime.serving.predictor import predictor_for
from merlin_runtime.serving.reports import Reports
from merlin_runtime.settings import UPI, Settings
from merlin_runtime.startup_phases import StartupPhases

if TYPE_CHECKING:  # grpcio is not in every environment.
    from merlin_runtime.rpc.server import RpcServer

new_event_loop: Callable[[], asyncio.AbstractEventLoop]
try:
    from uvloop import new_event_loop
except ImportError:
    from asyncio import new_event_loop

SETTLE_SECONDS = 0.2
"""After the listener closed, how long requests on their way in are waited for before idle
connections are closed. Each answer of that time says ``Connection: close``."""

SWITCH_SECONDS = 0.0005
"""How long a model's Python code keeps the interpreter from the event loop at most; by default it
is ten times that, several times for each health answer."""

_LOG = logging.getLogger("merlin_runtime")


def serve(settings: Settings, listener: socket.socket, phases: StartupPhases) -> None:
    """Serve on a listening socket until SIGTERM or SIGINT, then drain and return. Raises
    `ModelLoadFailed` if the model cannot be loaded; the port answers liveness until then. Raises
    `UsageError` for settings that only a library can judge, before anything is served."""
    sys.setswitchinterval(SWITCH_SECONDS)
    loop = new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(_Serving(settings, phases).run(listener))
    finally:
        loop.close()


class _Serving:
    def __init__(self, settings: Settings, phases: StartupPhases) -> None:
        self._settings = settings
        self._phases = phases
        self._metrics = ServingMetrics(
            name=settings.name, model=settings.model, version=settings.version
        )
        self._access_log = AccessLog(on=settings.access_log, ratio=settings.access_log_ratio)
        self._reports = Reports(settings, self._metrics)
        self._lifecycle = Lifecycle(self._metrics)
        self._hot_lane = HotLane(
            settings.name,
            self._lifecycle,
            self._metrics,
            max_body_bytes=settings.max_body_bytes,
            access_log=self._access_log,
            tracing=self._reports.tracing,
        )
        self._server = _Server(_uvicorn_config(settings, self._application(), self._hot_lane))
        self._draining: Optional[asyncio.Task[None]] = None
        self._drain_ends: Optional[float] = None
        self._rpc: Optional[RpcServer] = None
        self._rpc_failure: Optional[AddressUnavailable] = None

    async def run(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        opening = loop.create_task(self._open_rpc())
        load = threading.Thread(target=self._load, args=(loop, opening), name="load", daemon=True)
        load.start()
        await self._server.serve(sockets=[listener])
        await self._server.answer_cancelled()
        await opening
        if self._draining is not None and not self._server.force_exit:
            await self._draining
        await self._close_rpc()
        await loop.run_in_executor(None, self._reports.close, self._seconds_left())
        for failure in (self._lifecycle.failure, self._rpc_failure):
            if failure is not None:
                raise failure

    async def _open_rpc(self) -> None:
        """Beside the HTTP server, which answers liveness while this is imported."""
        if self._settings.grpc_port is None:
            return
        loop = asyncio.get_running_loop()
        make = await loop.run_in_executor(None, _rpc_server)
        self._rpc = make(
            self._settings,
            self._lifecycle,
            self._metrics,
            access_log=self._access_log,
            tracing=self._reports.tracing,
        )
        try:
            port = await self._rpc.start()
        except AddressUnavailable as failure:
            self._rpc, self._rpc_failure = None, failure
            self._server.should_exit = True
            return
        fields = {"event": "listening", "host": self._settings.host, "port": port}
        _LOG.info("listening for gRPC", extra={"fields": {**fields, "protocol": "grpc"}})

    async def _close_rpc(self) -> None:
        rpc, self._rpc = self._rpc, None
        if rpc is not None:
            await rpc.stop(self._settings.drain_seconds)

    def _application(self) -> Application:
        predict = PredictRoute(
            self._settings.name,
            self._lifecycle,
            self._metrics,
            version=self._settings.version,
            max_body_bytes=self._settings.max_body_bytes,
            access_log=self._access_log,
            tracing=self._reports.tracing,
            rpc_only=self._settings.protocol == UPI,
        )
        cold = ColdRoutes(
            self._settings.name, self._lifecycle, self._metrics, version=self._settings.version
        )
        return Application(predict, cold.app())

    def _load(self, loop: asyncio.AbstractEventLoop, opening: asyncio.Task[None]) -> None:
        try:
            settings = self._settings
            model = load_model(
                settings.model_dir,
                settings.model_type,
                self._phases,
                protocol=settings.protocol,
                observer=ModelObserver(self._metrics, self._reports.publisher),
            )
        except ModelLoadFailed as failure:
            _call_soon(loop, self._failed, failure)
            return
        signature = signature_of(settings.model_dir, model)
        # The model's objects live as long as the process: the collector need not visit them.
        with self._phases.phase("freeze"):
            gc.collect()
            gc.freeze()
        # Ready only once the other port is open as well.
        _call_soon(loop, opening.add_done_callback, lambda _: self._loaded(model, signature))

    def _loaded(self, model: Model, signature: Signature) -> None:
        seconds = self._phases.seconds
        self._metrics.load_seconds.set(sum(seconds.values()) - seconds.get("server", 0.0))
        pace = Pace()
        self._lifecycle.loaded(
            model,
            predictor_for(
                model,
                concurrency=self._settings.max_concurrency,
                max_queue=self._settings.max_queue,
                metrics=self._metrics,
                pace=pace,
            ),
            signature,
        )
        self._hot_lane.loaded(model, pace)
        fields = {"event": "ready", "name": self._settings.name, "type": model.kind}
        _LOG.info("ready", extra={"fields": {**fields, "seconds": seconds}})

    def _failed(self, failure: ModelLoadFailed) -> None:
        self._lifecycle.failure = failure
        self._server.should_exit = True

    def _stop(self, number: int) -> None:
        if self._draining is not None:
            if number == signal.SIGINT:  # somebody at a terminal insists
                self._server.force_exit = self._server.should_exit = True
            return
        self._lifecycle.drain()
        _LOG.info("draining", extra={"fields": {"event": "draining"}})
        self._draining = asyncio.ensure_future(self._drain())

    def _seconds_left(self) -> float:
        if self._drain_ends is None:
            return 0.0
        return self._drain_ends - asyncio.get_running_loop().time()

    async def _drain(self) -> None:
        await asyncio.sleep(self._settings.drain_delay_seconds)
        self._drain_ends = asyncio.get_running_loop().time() + self._settings.drain_seconds
        self._server.stop_accepting()
        closing = asyncio.ensure_future(self._close_rpc())
        await asyncio.sleep(SETTLE_SECONDS)
        self._server.should_exit = True
        await closing


class _Server(uvicorn.Server):
    """uvicorn closes its port at the first signal; here the port closes when told."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop_accepting(self) -> None:
        for server in getattr(self, "servers", []):
            server.close()

    async def answer_cancelled(self) -> None:
        """Let requests that outlived the grace period send their last answer."""
        tasks = set(self.server_state.tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=1)


def _rpc_server() -> Type[RpcServer]:
    from merlin_runtime.rpc.server import RpcServer  # noqa: PLC0415

    return RpcServer


def _uvicorn_config(
    settings: Settings, application: Application, hot_lane: HotLane
) -> uvicorn.Config:
    limits = Limits()
    return uvicorn.Config(
        application,
        http=cast("Type[asyncio.Protocol]", partial(ServedConnection, hot_lane, limits)),
        ws="none",
        lifespan="off",
        loop="none",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=2048,
        timeout_keep_alive=round(limits.idle_seconds),
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
    )


def _call_soon(
    loop: asyncio.AbstractEventLoop, function: Callable[[Any], None], argument: Any
) -> None:
    # The loop is closed where the process was asked to stop while the model loaded.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, argument)
