"""Python function models called by Merlin's Universal Prediction Interface.

As over HTTP, what the object can do decides:

- ``upiv1_preprocess``, ``infer`` and ``upiv1_postprocess`` (`PyFuncV3Model`): called in that order;
- ``upiv1_infer(request, context)`` (`PyFuncModel`);
- only ``predict(context, model_input)``: called with the keyed dictionary of Merlin's server.
"""

from __future__ import annotations

import inspect
from typing import Any, Awaitable, Callable, Mapping, Tuple

from merlin_runtime.errors import ModelLoadFailed
from merlin_runtime.models.observed_calls import Observer, response_of, three_steps
from merlin_runtime.models.port import Model
from merlin_runtime.models.pyfunc import Context, PythonFunction

Call = Callable[[Any, Any], Any]


def over_upi(function: PythonFunction, observer: Observer) -> Model:
    """Return the model to be asked with ``(PredictValuesRequest, context)``, which it answers with
    a ``PredictValuesResponse``. Raises `ModelLoadFailed` where nothing answers."""
    call, is_async = _call_style(function.instance, function.context, observer)
    return UpiServed(call, observer, is_async=is_async)


class UpiServed:
    """A user's Python model, asked by UPI."""

    kind = "pyfunc"
    row_wise = False

    def __init__(self, call: Call, observer: Observer, *, is_async: bool) -> None:
        self.is_async = is_async
        self._call = call
        self._observer = observer

    def predict(self, request: Any, headers: Mapping[str, str]) -> Any:
        del headers  # the context has them
        answer = self._call(*request)
        return self._awaited(answer) if self.is_async else self._response(answer)

    async def _awaited(self, answer: Awaitable[Any]) -> Any:
        return self._response(await answer)

    def _response(self, answer: Any) -> Any:
        return response_of(answer, "upi_response", self._observer)


def _call_style(python_model: Any, context: Context, observer: Observer) -> Tuple[Call, bool]:
    def has(*names: str) -> bool:
        return all(callable(getattr(python_model, name, None)) for name in names)

    if has("upiv1_preprocess", "infer", "upiv1_postprocess"):
        return _three_steps(python_model, observer)
    if has("upiv1_infer"):
        infer = python_model.upiv1_infer
        return infer, inspect.iscoroutinefunction(infer)
    if has("predict"):
        predict = python_model.predict

        def call(request: Any, grpc_context: Any) -> Any:
            model_input = {
                "__INPUT__": request,
                "__EXTRA_ARGS__": {},
                "__PROTOCOL__": "UPI_V1",
                "__GRPC_CONTEXT__": grpc_context,
            }
            return predict(context, model_input)

        return call, inspect.iscoroutinefunction(predict)
    raise ModelLoadFailed(
        f"The Python model, a {type(python_model).__name__}, has no upiv1_infer.",
        hint="Deploy it with protocol HTTP_JSON, or give its class upiv1_infer(request, context).",
    )


def _three_steps(model: Any, observer: Observer) -> Tuple[Call, bool]:
    steps = (model.upiv1_preprocess, model.infer, model.upiv1_postprocess)
    is_async = any(inspect.iscoroutinefunction(step) for step in steps)
    return three_steps(*steps, observer, is_async=is_async), is_async
