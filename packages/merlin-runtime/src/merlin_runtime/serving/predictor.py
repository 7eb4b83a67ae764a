"""Where predictions run: beside the server's event loop, and never without bound.

Only what is known to be quick, of a library's own models, runs on the loop itself, where handing
it to a thread would cost more than it saves.

Bodies are decoded and encoded beside the prediction, so the loop only moves bytes.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from typing import Optional, Protocol, Tuple, cast

from merlin_runtime.errors import ServingError
from merlin_runtime.models.port import BatchModel, Model
from merlin_runtime.serving.admission import Admission
from merlin_runtime.serving.batch_predictors import batch_predictor_for
from merlin_runtime.serving.codecs import Codec
from merlin_runtime.serving.jobs import Headers, Job, as_serving_error, connect, end
from merlin_runtime.serving.metrics import ServingMetrics
from merlin_runtime.serving.pace import Pace, StopWatch
from merlin_runtime.serving.streams import (
    AnswerStream,
    collect,
    collect_async,
    is_stream,
    pump,
    pump_async,
)


class Predictor(Protocol):
    """Turns request bodies into answers. Used from one event loop only."""

    @property
    def worth_cancelling(self) -> bool:
        """Whether cancelling what was just submitted could save work."""

    def submit(
        self, body: bytes, headers: Headers, codec: Codec, stream: Optional[AnswerStream] = None
    ) -> "asyncio.Future[bytes]":
        """Start or queue a prediction; raises `Overloaded` where the queue is full. The future
        ends with what the codec wrote, or a `ServingError`. Cancelled before it runs, it never
        runs.

        Where the model streams, the answer's items go to ``stream``, and the future ends, with
        nothing, as soon as that has begun; without one they are collected in a list."""


def predictor_for(
    model: Model, *, concurrency: int, max_queue: int, metrics: ServingMetrics, pace: Pace
) -> Predictor:
    """Return threads for an ordinary model, whose calls ``pace`` learns from; an event loop of its
    own for an async one; either with batches for one that takes them."""
    if getattr(model, "batch_limits", None) is not None:
        return batch_predictor_for(
            cast("BatchModel", model), Admission(concurrency, max_queue), metrics
        )
    if model.is_async:
        return CoroutinePredictor(
            model, concurrency=concurrency, max_queue=max_queue, metrics=metrics
        )
    return ThreadPredictor(
        model, concurrency=concurrency, max_queue=max_queue, metrics=metrics, pace=pace
    )


class ThreadPredictor:
    """A fixed number of threads behind one queue.

    The threads are daemons: a model that does not return must not keep the process from ending.
    """

    def __init__(
        self,
        model: Model,
        *,
        concurrency: int,
        max_queue: int,
        metrics: ServingMetrics,
        pace: Pace,
    ) -> None:
        self._model = model
        self._metrics = metrics
        self._pace = pace
        self._admission = Admission(concurrency, max_queue)
        self._jobs: "queue.SimpleQueue[Job]" = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._streams = False
        """Whether the model was seen to stream: such answers can be ended before their end."""
        for number in range(concurrency):
            threading.Thread(target=self._work, name=f"predict-{number}", daemon=True).start()

    @property
    def worth_cancelling(self) -> bool:
        return self._admission.has_queue or self._streams

    def submit(
        self, body: bytes, headers: Headers, codec: Codec, stream: Optional[AnswerStream] = None
    ) -> "asyncio.Future[bytes]":
        job = Job(body, headers, codec, self._loop.create_future(), stream)
        if stream is not None:
            connect(stream, job.future, lambda: None)
        if self._model.row_wise and self._pace.allows_inline(len(body)):
            self._settle(job, *self._outcome(job))
            return job.future
        self._admission.enter()
        self._jobs.put(job)
        return job.future

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            outcome = (None, None) if job.future.cancelled() else self._outcome(job)
            try:
                self._loop.call_soon_threadsafe(self._finish, job, *outcome)
            except RuntimeError:
                return  # the loop is closed: the process ends

    def _outcome(self, job: Job) -> Tuple[Optional[bytes], Optional[ServingError]]:
        try:
            return self._predict(job), None
        except BaseException as raised:  # noqa: BLE001  (threads and loop outlive any of them)
            return None, as_serving_error(raised)

    def _predict(self, job: Job) -> bytes:
        self._metrics.queue_seconds.observe(time.perf_counter() - job.queued_at)
        watch = StopWatch()
        request = job.codec.decode(job.body)
        called = time.perf_counter()
        try:
            answer = self._model.predict(request, job.headers)
            if is_stream(answer):
                self._streams = True
                if job.stream is not None:
                    pump(answer, job.stream)
                    return b""
                answer = collect(answer, lambda: not job.future.cancelled())
        finally:
            self._metrics.predicted(time.perf_counter() - called)
        encoded = job.codec.encode(answer)
        job.took = watch.took()
        return encoded

    def _finish(self, job: Job, answer: Optional[bytes], error: Optional[ServingError]) -> None:
        self._admission.leave()
        self._settle(job, answer, error)

    def _settle(self, job: Job, answer: Optional[bytes], error: Optional[ServingError]) -> None:
        if job.took is not None:
            self._pace.observe(job.took, len(job.body))
        end(job.future, job.stream, answer, error)


class CoroutinePredictor:
    """One event loop in a thread of its own, on which at most ``concurrency`` calls are open."""

    def __init__(
        self, model: Model, *, concurrency: int, max_queue: int, metrics: ServingMetrics
    ) -> None:
        self._model = model
        self._metrics = metrics
        self._admission = Admission(concurrency, max_queue)
        self._model_loop = asyncio.new_event_loop()
        self._slots: Optional[asyncio.Semaphore] = None
        self._concurrency = concurrency
        threading.Thread(
            target=self._model_loop.run_forever, name="predict-loop", daemon=True
        ).start()

    @property
    def worth_cancelling(self) -> bool:
        return True

    def submit(
        self, body: bytes, headers: Headers, codec: Codec, stream: Optional[AnswerStream] = None
    ) -> "asyncio.Future[bytes]":
        self._admission.enter()
        call = self._predict(body, headers, codec, stream, time.perf_counter())
        whole = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, self._model_loop))
        whole.add_done_callback(lambda _: self._admission.leave())
        if stream is None:
            return whole
        future: "asyncio.Future[bytes]" = asyncio.get_running_loop().create_future()
        connect(stream, future, whole.cancel)
        whole.add_done_callback(lambda _: end(future, stream, *_outcome_of(whole)))
        return future

    async def _predict(
        self,
        body: bytes,
        headers: Headers,
        codec: Codec,
        stream: Optional[AnswerStream],
        queued_at: float,
    ) -> bytes:
        # Made here because before Python 3.10 a semaphore belongs to the loop it was made on.
        if self._slots is None:
            self._slots = asyncio.Semaphore(self._concurrency)
        async with self._slots:
            started = time.perf_counter()
            self._metrics.queue_seconds.observe(started - queued_at)
            try:
                request = codec.decode(body)
                answer = await self._model.predict(request, headers)
                if is_stream(answer):
                    if stream is not None:
                        await pump_async(answer, stream)
                        return b""
                    answer = await collect_async(answer)
                return codec.encode(answer)
            except Exception as raised:  # noqa: BLE001  (whatever the model raises)
                error = as_serving_error(raised)
                raise error from error.__cause__
            finally:
                self._metrics.predicted(time.perf_counter() - started)


def _outcome_of(
    whole: "asyncio.Future[bytes]",
) -> Tuple[Optional[bytes], Optional[ServingError]]:
    if whole.cancelled():
        return None, None
    raised = whole.exception()
    return (whole.result(), None) if raised is None else (None, as_serving_error(raised))
