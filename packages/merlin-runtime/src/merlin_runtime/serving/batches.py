"""Several requests answered by one call of a model that takes them together."""

from __future__ import annotations

from typing import Any, Callable, Coroutine, List, NamedTuple, Sequence, TypeVar

from merlin_runtime.errors import BatchMiscounted
from merlin_runtime.models.observed_calls import settled
from merlin_runtime.models.port import BatchModel
from merlin_runtime.serving.jobs import Job, as_serving_error

Result = TypeVar("Result")
Settle = Callable[[Job, Any], None]
"""Of a job and its outcome: bytes, or a `ServingError`."""


class _Decoded(NamedTuple):
    job: Job
    request: Any


async def answer_batch(model: BatchModel, jobs: Sequence[Job], settle: Settle) -> None:
    """Settle each job with its own outcome, in order. Where the call for all fails, each is asked
    for alone, so that one bad request harms no other; the model then sees the good ones twice."""
    decoded = []
    for job in jobs:
        try:
            decoded.append(_Decoded(job, job.codec.decode(job.body)))
        except BaseException as error:  # noqa: BLE001  (each request fails alone)
            settle(job, as_serving_error(error))
    try:
        answers = await _asked(model, decoded)
    except BaseException as error:  # noqa: BLE001  (whatever the model raises)
        if len(decoded) == 1:
            settle(decoded[0].job, as_serving_error(error))
            return
        for one in decoded:
            await _answer_alone(model, one, settle)
        return
    for (job, _), answer in zip(decoded, answers):  # noqa: B905  (Python 3.9)
        settle(job, _encoded(job, answer))


async def _answer_alone(model: BatchModel, one: _Decoded, settle: Settle) -> None:
    try:
        [answer] = await _asked(model, [one])
    except BaseException as error:  # noqa: BLE001  (whatever the model raises)
        settle(one.job, as_serving_error(error))
    else:
        settle(one.job, _encoded(one.job, answer))


async def _asked(model: BatchModel, decoded: Sequence[_Decoded]) -> List[Any]:
    if not decoded:
        return []
    requests = [one.request for one in decoded]
    headers = [one.job.headers for one in decoded]
    answers: List[Any] = await settled(model.predict_batch(requests, headers))
    if len(answers) != len(requests):
        raise BatchMiscounted(
            f"The model's infer_batch gave {len(answers)} answers to {len(requests)} requests."
        )
    return answers


def _encoded(job: Job, answer: Any) -> Any:
    try:
        return job.codec.encode(answer)
    except BaseException as error:  # noqa: BLE001  (what the model answered may do anything)
        return as_serving_error(error)


def run_now(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine that waits for nothing, as that of a model that is not async."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    coroutine.close()
    raise RuntimeError("a model that is not async waited for something")
