"""Python function models called by Merlin's Universal Prediction Interface.

As over HTTP, what the object can do decides:

- ``upiv1_preprocess``, ``infer`` and ``upiv1_postprocess`` (`PyFuncV3Model`): called in that order;
- ``upiv1_infer(request, context)`` (`PyFuncModel`);
- only ``predict(context, model_input)``: called with the keyed dictionary of Merlin's server.
"""

from __future__ import annotations

import inspect
from typing import Any, Callable, Mapping, Tuple

from merlin_runtime.errors import ModelLoadFailed
from merlin_runtime.models.port import Model
from merlin_runtime.models.pyfunc import Context, PythonFunction, settled

Call = Callable[[Any, Any], Any]


def over_upi(function: PythonFunction) -> Model:
    """Return the model to be asked with ``(PredictValuesRequest, context)``, which it answers with
    a ``PredictValuesResponse``. Raises `ModelLoadFailed` where nothing answers."""
    return UpiServed(*_call_style(function.instance, function.context))


class UpiServed:
    """A user's Python model, asked by UPI."""

    kind = "pyfunc"
    row_wise = False

    def __init__(self, call: Call, is_async: bool) -> None:
        self.is_async = is_async
        self._call = call

    def predict(self, request: Any, headers: Mapping[str, str]) -> Any:
        del headers  # the context has them
        answer = self._call(*request)
        return _awaited(answer) if self.is_async else _response(answer)


def _call_style(python_model: Any, context: Context) -> Tuple[Call, bool]:
    def has(*names: str) -> bool:
        return all(callable(getattr(python_model, name, None)) for name in names)

    if has("upiv1_preprocess", "infer", "upiv1_postprocess"):
        return _three_steps(python_model)
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


def _three_steps(model: Any) -> Tuple[Call, bool]:
    preprocess, infer, postprocess = model.upiv1_preprocess, model.infer, model.upiv1_postprocess
    if not any(inspect.iscoroutinefunction(step) for step in (preprocess, infer, postprocess)):
        return (
            lambda request, context: postprocess(infer(preprocess(request, context)), request)
        ), False

    async def call(request: Any, context: Any) -> Any:
        model_input = await settled(preprocess(request, context))
        model_output = await settled(infer(model_input))
        return await settled(postprocess(model_output, request))

    return call, True


async def _awaited(answer: Any) -> Any:
    return _response(await answer)


def _response(answer: Any) -> Any:
    # PyFuncOutput, known by its shape: its class may have come inside the pickle.
    return getattr(answer, "upi_response", answer)
