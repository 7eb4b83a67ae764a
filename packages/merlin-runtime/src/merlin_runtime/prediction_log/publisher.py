"""Prediction logs, from the model's threads to a sink: sampled, queued, written elsewhere.

A prediction pays for a random number and, if it is one of the sample, for a place in a queue.
Where the queue is full the log is dropped and counted; nothing waits.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import threading
import time
from typing import Any, Callable, NamedTuple, Optional, Protocol

from merlin_runtime.log_lines import OnceInAWhile

CAPACITY = 1000
"""Predictions waiting to be written as messages."""

_POLL_SECONDS = 0.5
DELIVERED, DROPPED, FAILED = "delivered", "dropped", "failed"

_LOG = logging.getLogger("merlin_runtime.prediction_log")


class SinkFull(Exception):
    """The sink holds as much as it may."""


class NotLoggable(Exception):
    """What the model computed has no form in a prediction log. The message holds no values."""


class Sink(Protocol):
    """Used from the publisher's thread only. `merlin_runtime.prediction_log.kafka` says more."""

    def open(self) -> None: ...

    def send(self, message: bytes, settled: Callable[[bool], None]) -> None: ...

    def poll(self) -> None: ...

    def flush(self, seconds: float) -> None: ...


class Answered(NamedTuple):
    """A `ModelInput` and `ModelOutput`, and nanoseconds since the epoch."""

    model_input: Any
    model_output: Any
    at_ns: int


class PredictionLogPublisher:
    """Between the threads that predict and one that publishes.

    ``count`` is called with one of `DELIVERED`, `DROPPED` (a queue was full) and `FAILED` (the
    message cannot be written, or was not delivered), once for each log of the sample.
    """

    def __init__(
        self,
        sink: Sink,
        write: Callable[[Answered], bytes],
        count: Callable[[str], None],
        *,
        sampling_ratio: float,
        capacity: int = CAPACITY,
        draw: Callable[[], float] = random.random,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._sink = sink
        self._write = write
        self._count = count
        self._sampling_ratio = sampling_ratio
        self._draw = draw
        self._clock_ns = clock_ns
        self._waiting: "queue.Queue[Optional[Answered]]" = queue.Queue(capacity)
        self._closing = threading.Event()
        self._flush_until = 0.0
        self._full = OnceInAWhile(_LOG)
        self._unwritable = OnceInAWhile(_LOG)
        self._nothing_to_log_said = False
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def offer(self, model_input: Any, model_output: Any) -> None:
        """Take an answered prediction, from any thread; never waits and never raises. The model
        must not change the two any more."""
        if model_input is None or model_output is None:
            self._say_nothing_to_log()
            return
        if self._draw() >= self._sampling_ratio:
            return
        try:
            self._waiting.put_nowait(Answered(model_input, model_output, self._clock_ns()))
        except queue.Full:
            self._drop("faster than they can be written")

    def close(self, seconds: float) -> None:
        """Publish what waits, for at most this long, and end. Call it when no more predictions
        come; off the event loop."""
        self._flush_until = time.monotonic() + seconds
        self._closing.set()
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)  # wakes the thread
        self._thread.join(seconds + 1.0)

    def _run(self) -> None:
        try:
            self._sink.open()
        except Exception as error:  # noqa: BLE001  (whatever the client library raises)
            _LOG.warning("Prediction logs: %s: %s", type(error).__name__, error)
        while not (self._closing.is_set() and self._waiting.empty()):
            answered = self._next()
            if answered is not None:
                self._publish(answered)
            self._sink.poll()
            if self._closing.is_set() and time.monotonic() > self._flush_until:
                break
        self._sink.flush(max(0.0, self._flush_until - time.monotonic()))
        while not self._waiting.empty():
            if self._waiting.get_nowait() is not None:
                self._count(FAILED)

    def _next(self) -> Optional[Answered]:
        try:
            return self._waiting.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            return None

    def _publish(self, answered: Answered) -> None:
        try:
            self._sink.send(self._write(answered), self._settled)
        except SinkFull:
            self._drop("faster than they are delivered")
        except Exception as error:  # noqa: BLE001  (the model's own values are in there)
            self._count(FAILED)
            why = str(error) if isinstance(error, NotLoggable) else type(error).__name__
            self._unwritable.warn(f"A prediction log cannot be written: {why}.")

    def _settled(self, delivered: bool) -> None:
        self._count(DELIVERED if delivered else FAILED)

    def _drop(self, why: str) -> None:
        self._count(DROPPED)
        self._full.warn(f"Prediction logs are dropped: they come {why}.")

    def _say_nothing_to_log(self) -> None:
        if not self._nothing_to_log_said:
            self._nothing_to_log_said = True
            _LOG.warning(
                "PUBLISHER_ENABLED is set, but the model's answer holds no model_input and "
                "model_output, so there is nothing to log. A PyFuncV3Model's answers do."
            )
