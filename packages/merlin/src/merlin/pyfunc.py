"""The interfaces that a model written in Python subclasses.

Pickled models refer to these classes by name, so the module lives inside every image: it needs
nothing but the standard library of Python 3.9, and its names never move. A model is pickled by
cloudpickle, so whatever its ``__init__`` set travels with it; large files come as artifacts.

Life of a model in a server: unpickle, ``initialize(artifacts)`` once, then one call a request.
`load_context` and `predict` make the same object loadable by ``mlflow.pyfunc.load_model``.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from merlin.protocol import Protocol

INPUT_KEY = "__INPUT__"
EXTRA_ARGS_KEY = "__EXTRA_ARGS__"
PROTOCOL_KEY = "__PROTOCOL__"
GRPC_CONTEXT_KEY = "__GRPC_CONTEXT__"


@dataclass
class Values:
    """A small table: ``data`` holds one list a row, in the order of ``columns``."""

    columns: List[str]
    data: List[List[Any]]

    def to_dict(self) -> Dict[str, Any]:
        """Return the table as JSON-like lists."""
        return {"columns": self.columns, "data": self.data}


@dataclass
class ModelInput:
    """What a `PyFuncV3Model` computes from a request; ids name the rows in prediction logs."""

    features: Values
    prediction_ids: List[str] = field(default_factory=list)
    entities: Optional[Values] = None
    session_id: str = ""
    row_ids: List[str] = field(default_factory=list)


@dataclass
class ModelOutput:
    """What a `PyFuncV3Model` predicts, row by row as its input."""

    predictions: Values
    prediction_ids: List[str] = field(default_factory=list)
    row_ids: List[str] = field(default_factory=list)


@dataclass
class PyFuncOutput:
    """One answered call: the response of the protocol used, and what led to it."""

    http_response: Optional[Dict[str, Any]] = None
    upi_response: Any = None
    model_input: Optional[ModelInput] = None
    model_output: Optional[ModelOutput] = None


@dataclass(frozen=True)
class Batching:
    """That a model takes several requests in one call, and how.

    Requests that come while the model is busy share its next call, ``max_size`` at most. On a quiet
    server none waits, unless ``max_delay`` allows it: seconds for which a call waits for more.
    """

    max_size: int = 64
    max_delay: float = 0.0

    def __post_init__(self) -> None:
        if self.max_size < 1:
            raise ValueError(f"Batching: max_size is {self.max_size}; it must be 1 or more.")
        if not 0 <= self.max_delay <= 60:
            raise ValueError(
                f"Batching: max_delay is {self.max_delay}; it must be 0 to 60 seconds."
            )


class _Loadable:
    """What ``mlflow.pyfunc`` asks of the object it unpickles."""

    # MLflow 2.20 and later read it from every model; None means that inputs pass unconverted.
    predict_type_hints = None

    def initialize(self, artifacts: Dict[str, str]) -> None:
        """Prepare to serve; ``artifacts`` maps the logged names to paths. Called once."""

    def load_context(self, context: Any) -> None:
        self.initialize(context.artifacts)


class PyFuncModel(_Loadable):
    """A model of type ``pyfunc``: override `infer`, and `initialize` when there are artifacts.

    With ``batching`` set, override `infer_batch` as well: the server calls it instead.
    """

    batching: Optional[Batching] = None

    def infer(self, request: Dict[str, Any], **kwargs: Any) -> Any:
        """Answer one JSON request with JSON-like data. A generator streams its items.

        ``kwargs`` carries ``headers``, the request's headers as a dict. An override without
        ``**kwargs`` is called without them.
        """
        raise NotImplementedError

    def infer_batch(self, requests: List[Any], **kwargs: Any) -> List[Any]:
        """Answer each of several JSON requests, in order: each answer must depend on its request
        alone.

        ``kwargs`` carries ``headers``, a list of one dict for each request. If it raises, it is
        called again for each request by itself, so that only those that cannot be answered fail.
        """
        raise NotImplementedError

    def upiv1_infer(self, request: Any, context: Any) -> Any:
        """Answer one ``PredictValuesRequest``; ``context`` is gRPC's."""
        raise NotImplementedError

    def predict(self, context: Any, model_input: Any) -> Any:  # noqa: ARG002 (MLflow's signature)
        call = _Call.of(model_input)
        if call.protocol is Protocol.UPI_V1:
            return self.upiv1_infer(call.request, call.grpc_context)
        return self.infer(call.request, **call.keywords_for(self.infer))


class PyFuncV2Model(_Loadable):
    """A model of type ``pyfunc_v2``, for batch: rows of a table in, one value a row out."""

    def infer(self, model_input: Any) -> Any:
        """Take a pandas DataFrame and return an array, Series or DataFrame of equal length."""
        raise NotImplementedError

    def predict(self, context: Any, model_input: Any) -> Any:  # noqa: ARG002 (MLflow's signature)
        return self.infer(model_input)


class PyFuncV3Model(_Loadable):
    """A ``pyfunc`` in three stages, so that features and predictions can be logged apart."""

    def preprocess(self, request: Dict[str, Any], **kwargs: Any) -> ModelInput:
        """Turn a JSON request into features; ``kwargs`` as in `PyFuncModel.infer`."""
        raise NotImplementedError

    def infer(self, model_input: ModelInput) -> ModelOutput:
        """Predict."""
        raise NotImplementedError

    def postprocess(self, model_output: ModelOutput, request: Dict[str, Any]) -> Dict[str, Any]:
        """Turn predictions into the JSON response."""
        raise NotImplementedError

    def upiv1_preprocess(self, request: Any, context: Any) -> ModelInput:
        """Turn a ``PredictValuesRequest`` into features."""
        raise NotImplementedError

    def upiv1_postprocess(self, model_output: ModelOutput, request: Any) -> Any:
        """Turn predictions into a ``PredictValuesResponse``."""
        raise NotImplementedError

    def predict(
        self,
        context: Any,  # noqa: ARG002 (MLflow's signature)
        model_input: Any,
    ) -> PyFuncOutput:
        call = _Call.of(model_input)
        if call.protocol is Protocol.UPI_V1:
            features = self.upiv1_preprocess(call.request, call.grpc_context)
            output = self.infer(features)
            answer = self.upiv1_postprocess(output, call.request)
            return PyFuncOutput(upi_response=answer, model_input=features, model_output=output)
        features = self.preprocess(call.request, **call.keywords_for(self.preprocess))
        output = self.infer(features)
        response = self.postprocess(output, call.request)
        return PyFuncOutput(http_response=response, model_input=features, model_output=output)


@dataclass
class _Call:
    """One call of `predict`: a server wraps the request with what came along with it, anything
    else is the request itself."""

    request: Any
    keywords: Dict[str, Any]
    protocol: Protocol
    grpc_context: Any

    @classmethod
    def of(cls, model_input: Any) -> _Call:
        wrapped = isinstance(model_input, dict) and INPUT_KEY in model_input
        call = model_input if wrapped else {INPUT_KEY: model_input}
        return cls(
            request=call[INPUT_KEY],
            keywords=dict(call.get(EXTRA_ARGS_KEY) or {}),
            protocol=_protocol(call.get(PROTOCOL_KEY)),
            grpc_context=call.get(GRPC_CONTEXT_KEY),
        )

    def keywords_for(self, function: Any) -> Dict[str, Any]:
        parameters = inspect.signature(function).parameters.values()
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return self.keywords
        known = {parameter.name for parameter in parameters}
        return {name: value for name, value in self.keywords.items() if name in known}


def _protocol(value: Any) -> Protocol:
    # Callers have their own enum, ours, its value or nothing: only the name counts.
    name = getattr(value, "name", value)
    return Protocol.UPI_V1 if name == Protocol.UPI_V1.value else Protocol.HTTP_JSON
