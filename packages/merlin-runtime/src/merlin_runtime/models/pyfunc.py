"""Python function models: an MLflow pyfunc folder, loaded without MLflow.

Users subclass Merlin's base classes, but which base class a pickle carries depends on when and
how it was made. What the object can do decides, not what it is:

- ``preprocess``, ``infer`` and ``postprocess`` (`PyFuncV3Model`): called in that order;
- ``infer`` (`PyFuncModel`): ``infer(request, headers=...)``;
- only ``predict(context, model_input)``: called with the keyed dictionary of Merlin's server;
- only ``predict(model_input, ...)``, from old SDKs: ``predict(request, headers=...)``.

One with ``batching`` (`merlin.pyfunc.Batching`) is asked by ``infer_batch`` instead.
"""

from __future__ import annotations

import inspect
import pickle
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple, Union

from merlin_runtime.errors import ModelLoadFailed
from merlin_runtime.models.mlmodel_file import parse_mlmodel
from merlin_runtime.models.observed_calls import Observer, response_of, settled, three_steps
from merlin_runtime.models.port import BatchLimits, Model
from merlin_runtime.startup_phases import StartupPhases

Call = Callable[[Any, Any], Any]
"""Of a request and its headers, or of lists of both."""


@dataclass(frozen=True)
class Context:
    """What MLflow's ``load_context`` and ``predict`` are given: absolute paths by name."""

    artifacts: Dict[str, str]
    model_config: Dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PythonFunction:
    """A user's object, initialized; which of its methods answers depends on the protocol."""

    instance: Any
    context: Context


def load(folder: Path, phases: StartupPhases) -> Union[Model, PythonFunction]:
    """Load the folder; puts its ``code/`` first on ``sys.path`` for good. Some other model that is
    wrapped as a Python function is a model at once."""
    flavors = _flavors(folder)
    flavor = flavors.get("python_function")
    if not isinstance(flavor, dict):
        raise ModelLoadFailed(
            f"{folder / 'MLmodel'} has no python_function flavor.", found=sorted(flavors)
        )
    if flavor.get("loader_module") == "mlflow.sklearn":
        return _load_sklearn(folder, flavors, phases)
    if not isinstance(flavor.get("python_model"), str):
        raise ModelLoadFailed(
            f"{folder / 'MLmodel'} names no python_model; its loader is "
            f"{flavor.get('loader_module')!r}, which this server does not have."
        )
    context = Context(_artifacts(folder, flavor))
    code = folder / str(flavor.get("code") or "code")
    if code.is_dir():
        sys.path.insert(0, str(code))
    with phases.phase("load"):
        python_model = _unpickle(folder / flavor["python_model"])
    with phases.phase("initialize"):
        _initialize(python_model, context)
    return PythonFunction(python_model, context)


def over_http(function: PythonFunction, observer: Observer) -> Model:
    """Return the model to be asked with JSON. Raises `ModelLoadFailed` where nothing answers."""
    instance = function.instance
    batching = getattr(instance, "batching", None)
    # Known by its shape, as all of Merlin's classes.
    if type(batching).__name__ == "Batching":
        return _batch_served(instance, batching, observer)
    call, is_async = _call_style(instance, function.context, observer)
    return PyFuncServed(call, observer, is_async=is_async)


def _batch_served(instance: Any, batching: Any, observer: Observer) -> Model:
    name = type(instance).__name__
    if not callable(getattr(instance, "infer_batch", None)):
        raise ModelLoadFailed(
            f"The Python model, a {name}, asks for batching but has no infer_batch.",
            hint="Give it infer_batch(requests), which returns a list of answers.",
        )
    if callable(getattr(instance, "preprocess", None)):
        raise ModelLoadFailed(
            f"The Python model, a {name}, asks for batching but works in three steps.",
            hint="Subclass merlin.model.PyFuncModel for batching.",
        )
    return BatchServed(instance, batching, observer)


class PyFuncServed:
    """A user's Python model, asked over HTTP."""

    kind = "pyfunc"
    row_wise = False

    def __init__(self, call: Call, observer: Observer, *, is_async: bool) -> None:
        self.is_async = is_async
        self._call = call
        self._observer = observer

    def predict(self, request: Any, headers: Mapping[str, str]) -> Any:
        answer = self._call(request, headers)
        return self._awaited(answer) if self.is_async else self._response(answer)

    async def _awaited(self, answer: Any) -> Any:
        return self._response(await settled(answer))

    def _response(self, answer: Any) -> Any:
        return response_of(answer, "http_response", self._observer)


class BatchServed:
    """A user's Python model that takes several requests in one call."""

    kind = "pyfunc"
    row_wise = False

    def __init__(self, instance: Any, batching: Any, observer: Observer) -> None:
        self.batch_limits = BatchLimits(batching.max_size, batching.max_delay)
        self._call, self.is_async = _with_headers(instance.infer_batch)
        self._observer = observer

    def predict_batch(self, requests: List[Any], headers: Sequence[Mapping[str, str]]) -> Any:
        answers = self._call(requests, headers)
        return self._awaited(answers) if self.is_async else self._responses(answers)

    def predict(self, request: Any, headers: Mapping[str, str]) -> Any:
        answers = self.predict_batch([request], [headers])
        return self._awaited_only(answers) if self.is_async else answers[0]

    async def _awaited(self, answers: Any) -> Any:
        return self._responses(await settled(answers))

    async def _awaited_only(self, answers: Any) -> Any:
        return (await answers)[0]

    def _responses(self, answers: Any) -> Any:
        return [response_of(answer, "http_response", self._observer) for answer in answers]


def _flavors(folder: Path) -> Dict[str, Any]:
    path = folder / "MLmodel"
    try:
        document = parse_mlmodel(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelLoadFailed(
            f"{folder} has no MLmodel file, so it is no Python function model.",
            found=sorted(entry.name for entry in folder.iterdir())[:20],
        ) from None
    except ValueError as error:
        raise ModelLoadFailed(f"{path} is no MLmodel file: {error}.") from error
    flavors = document.get("flavors")
    return flavors if isinstance(flavors, dict) else {}


def _load_sklearn(folder: Path, flavors: Dict[str, Any], phases: StartupPhases) -> Model:
    # Imports numpy and joblib, which only such a model is sure to have.
    from merlin_runtime.models import sklearn  # noqa: PLC0415

    described = flavors.get("sklearn")
    pickled = described.get("pickled_model") if isinstance(described, dict) else None
    return sklearn.load_file(folder / str(pickled or "model.pkl"), phases)


def _artifacts(folder: Path, flavor: Dict[str, Any]) -> Dict[str, str]:
    artifacts = {}
    for name, entry in (flavor.get("artifacts") or {}).items():
        path = folder / str(entry["path"])
        if not path.exists():
            raise ModelLoadFailed(f"The model's artifact {name!r} is missing: no {path}.")
        artifacts[name] = str(path)
    return artifacts


def _unpickle(path: Path) -> Any:
    # cloudpickle writes what plain pickle reads, where the cloudpickle package can be imported.
    if not path.is_file():
        raise ModelLoadFailed(f"The Python model is missing: no {path}.")
    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301  (the model is the user's code)


def _initialize(python_model: Any, context: Context) -> None:
    if callable(getattr(python_model, "initialize", None)):
        python_model.initialize(context.artifacts)
    elif callable(getattr(python_model, "load_context", None)):
        python_model.load_context(context)


def _call_style(python_model: Any, context: Context, observer: Observer) -> Tuple[Call, bool]:
    def has(name: str) -> bool:
        return callable(getattr(python_model, name, None))

    if any(base.__name__ == "PyFuncV2Model" for base in type(python_model).__mro__):
        raise ModelLoadFailed(
            "This is a PyFuncV2Model, which predicts whole tables in batch jobs, not requests.",
            hint="Subclass merlin.model.PyFuncModel to serve it, or run it as a prediction job.",
        )
    if has("preprocess") and has("infer") and has("postprocess"):
        return _three_steps(python_model, observer)
    if has("infer"):
        return _with_headers(python_model.infer)
    if has("predict"):
        if _positional_parameters(python_model.predict) >= 2:
            return _keyed(python_model.predict, context)
        return _with_headers(python_model.predict)
    raise ModelLoadFailed(
        f"The Python model, a {type(python_model).__name__}, has neither infer nor predict."
    )


def _with_headers(method: Callable[..., Any]) -> Tuple[Call, bool]:
    is_async = _is_async(method)
    if _takes_headers(method):
        return (lambda request, headers: method(request, headers=headers)), is_async
    return (lambda request, _: method(request)), is_async


def _keyed(predict: Callable[..., Any], context: Context) -> Tuple[Call, bool]:
    def call(request: Any, headers: Mapping[str, str]) -> Any:
        model_input = {
            "__INPUT__": request,
            "__EXTRA_ARGS__": {"headers": headers},
            "__PROTOCOL__": "HTTP_JSON",
        }
        return predict(context, model_input)

    return call, _is_async(predict)


def _three_steps(model: Any, observer: Observer) -> Tuple[Call, bool]:
    preprocess, _ = _with_headers(model.preprocess)
    steps = (model.preprocess, model.infer, model.postprocess)
    is_async = any(_is_async(step) for step in steps)
    call = three_steps(preprocess, model.infer, model.postprocess, observer, is_async=is_async)
    return call, is_async


def _is_async(method: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)


def _takes_headers(method: Callable[..., Any]) -> bool:
    return any(
        parameter.kind is parameter.VAR_KEYWORD
        or (parameter.name == "headers" and parameter.kind is not parameter.POSITIONAL_ONLY)
        for parameter in inspect.signature(method).parameters.values()
    )


def _positional_parameters(method: Callable[..., Any]) -> int:
    return sum(
        parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}
        and parameter.default is parameter.empty
        for parameter in inspect.signature(method).parameters.values()
    )
