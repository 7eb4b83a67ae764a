"""What is told of calls of a Python model: how long its steps took, and what they computed."""

from __future__ import annotations

import inspect
import time
from typing import Any, Callable, NamedTuple, Protocol

STEPS = ("preprocess", "predict", "postprocess")


class Observer(Protocol):
    """Called from the thread or event loop that the model runs on; never waits, never raises."""

    def stepwise(self) -> None:
        """Of this model's calls, steps will be told; said once, when it is loaded."""

    def step(self, name: str, seconds: float) -> None:
        """One of `STEPS` has ended."""

    def answered(self, model_input: Any, model_output: Any) -> None:
        """A prediction was made; both are None where the model's answer does not hold them."""


class Unobserved:
    def stepwise(self) -> None: ...

    def step(self, name: str, seconds: float) -> None: ...

    def answered(self, model_input: Any, model_output: Any) -> None: ...


class StepsOutput(NamedTuple):
    """What `PyFuncOutput` holds; its own class may be missing where the model is loaded."""

    response: Any
    model_input: Any
    model_output: Any


def response_of(answer: Any, attribute: str, observer: Observer) -> Any:
    """Return a protocol's response out of what a model answered, and show it to the observer. A
    `PyFuncOutput` is known by its shape: its class may have come inside the pickle."""
    observer.answered(getattr(answer, "model_input", None), getattr(answer, "model_output", None))
    if isinstance(answer, StepsOutput):
        return answer.response
    return getattr(answer, attribute, answer)


def three_steps(
    preprocess: Callable[[Any, Any], Any],
    infer: Callable[[Any], Any],
    postprocess: Callable[[Any, Any], Any],
    observer: Observer,
    *,
    is_async: bool,
) -> Callable[[Any, Any], Any]:
    """Return the function of a request, and what came along with it, that calls all three. With
    ``is_async`` it is a coroutine function, and any of them may be one."""

    observer.stepwise()

    def call(request: Any, beside: Any) -> StepsOutput:
        watch = _StepWatch(observer)
        model_input = watch.ended("preprocess", preprocess(request, beside))
        model_output = watch.ended("predict", infer(model_input))
        response = watch.ended("postprocess", postprocess(model_output, request))
        return StepsOutput(response, model_input, model_output)

    async def call_async(request: Any, beside: Any) -> StepsOutput:
        watch = _StepWatch(observer)
        model_input = watch.ended("preprocess", await settled(preprocess(request, beside)))
        model_output = watch.ended("predict", await settled(infer(model_input)))
        response = watch.ended("postprocess", await settled(postprocess(model_output, request)))
        return StepsOutput(response, model_input, model_output)

    return call_async if is_async else call


async def settled(value: Any) -> Any:
    """Return a value, or what an awaitable comes to."""
    return await value if inspect.isawaitable(value) else value


class _StepWatch:
    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._began = time.perf_counter()

    def ended(self, step: str, result: Any) -> Any:
        now = time.perf_counter()
        self._observer.step(step, now - self._began)
        self._began = now
        return result
