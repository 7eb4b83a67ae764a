"""Predictors that let requests share calls of a model that asked for it.

Batches are of what waits while the model is busy: on a quiet server no request waits for another,
unless the model allows a delay.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections import deque
from typing import Any, Deque, List, Optional, Union

from merlin_runtime.errors import ServingError
from merlin_runtime.models.port import BatchModel
from merlin_runtime.serving.admission import Admission
from merlin_runtime.serving.batches import answer_batch, run_now
from merlin_runtime.serving.codecs import Codec
from merlin_runtime.serving.jobs import Headers, Job, end
from merlin_runtime.serving.metrics import ServingMetrics
from merlin_runtime.serving.streams import AnswerStream


def batch_predictor_for(
    model: BatchModel, admission: Admission, metrics: ServingMetrics
) -> "Union[BatchThreads, BatchCoroutines]":
    """Used from the running loop only, as `Predictor` has it."""
    return (BatchCoroutines if model.is_async else BatchThreads)(model, admission, metrics)


class _Batches:
    worth_cancelling = True

    def __init__(self, model: BatchModel, admission: Admission, metrics: ServingMetrics) -> None:
        self._model = model
        self._limits = model.batch_limits
        self._admission = admission
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()

    def submit(
        self, body: bytes, headers: Headers, codec: Codec, stream: Optional[AnswerStream] = None
    ) -> "asyncio.Future[bytes]":
        del stream  # an answer among others is whole
        self._admission.enter()
        job = Job(body, headers, codec, self._loop.create_future(), None)
        self._enqueue(job)
        return job.future

    def _enqueue(self, job: Job) -> None:
        raise NotImplementedError

    async def _answer(self, jobs: List[Job]) -> None:
        started = time.perf_counter()
        wanted = []
        for job in jobs:
            if job.future.cancelled():
                self._settle(job, None)
            else:
                self._metrics.queue_seconds.observe(started - job.queued_at)
                wanted.append(job)
        if wanted:
            self._metrics.batch_requests.observe(len(wanted))
            await answer_batch(self._model, wanted, self._settle)
            seconds = time.perf_counter() - started
            self._metrics.predicted(seconds, requests=len(wanted))

    def _settle(self, job: Job, outcome: Any) -> None:
        # The loop is closed where the process ends.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._finish, job, outcome)

    def _finish(self, job: Job, outcome: Any) -> None:
        self._admission.leave()
        if isinstance(outcome, ServingError):
            end(job.future, None, None, outcome)
        else:
            end(job.future, None, outcome, None)


class BatchThreads(_Batches):
    """A fixed number of daemon threads behind one queue. One at a time takes from it, so that what
    waits becomes one batch and not a small one for each."""

    def __init__(self, model: BatchModel, admission: Admission, metrics: ServingMetrics) -> None:
        super().__init__(model, admission, metrics)
        self._jobs: "queue.Queue[Job]" = queue.Queue()
        self._taking = threading.Lock()
        for number in range(admission.concurrency):
            threading.Thread(target=self._work, name=f"predict-{number}", daemon=True).start()

    def _enqueue(self, job: Job) -> None:
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            with self._taking:
                jobs = self._take()
            run_now(self._answer(jobs))

    def _take(self) -> List[Job]:
        jobs = [self._jobs.get()]
        until = time.monotonic() + self._limits.max_delay
        while len(jobs) < self._limits.max_size:
            try:
                jobs.append(self._jobs.get(timeout=max(0.0, until - time.monotonic())))
            except queue.Empty:
                break
        return jobs


class BatchCoroutines(_Batches):
    """An event loop in a thread of its own. Each request is a turn there, which takes all that wait
    when there is a place for it; the turns of those taken find nothing left."""

    def __init__(self, model: BatchModel, admission: Admission, metrics: ServingMetrics) -> None:
        super().__init__(model, admission, metrics)
        self._waiting: Deque[Job] = deque()
        self._model_loop = asyncio.new_event_loop()
        self._slots: Optional[asyncio.Semaphore] = None
        self._full: Optional[asyncio.Event] = None
        threading.Thread(
            target=self._model_loop.run_forever, name="predict-loop", daemon=True
        ).start()

    def _enqueue(self, job: Job) -> None:
        self._waiting.append(job)
        asyncio.run_coroutine_threadsafe(self._turn(), self._model_loop)

    async def _turn(self) -> None:
        # Made here because before Python 3.10 they belong to the loop they were made on.
        if self._slots is None or self._full is None:
            self._slots = asyncio.Semaphore(self._admission.concurrency)
            self._full = asyncio.Event()
        if len(self._waiting) >= self._limits.max_size:
            self._full.set()
        async with self._slots:
            if self._waiting and self._limits.max_delay > 0:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._full.wait(), self._limits.max_delay)
            count = min(len(self._waiting), self._limits.max_size)
            jobs = [self._waiting.popleft() for _ in range(count)]
            if len(self._waiting) < self._limits.max_size:
                self._full.clear()
            await self._answer(jobs)
