"""Writing a Python-function model as an MLflow pyfunc folder.

The layout is MLflow's, so that ``mlflow.pyfunc.load_model`` reads it as well as our runtime:
``MLmodel``, ``conda.yaml``, ``python_model.pkl``, ``code/`` (put on the module path) and
``artifacts/`` (one file or folder a name).
"""

from __future__ import annotations

import pickle
import platform
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import yaml

from merlin.client.conda_env import CONSTRAINTS_FILE, pack_environment
from merlin.client.errors import InvalidArgument, ModelNotPicklable

NOT_CODE = shutil.ignore_patterns("__pycache__", "*.pyc", ".git", ".venv", ".mypy_cache")


def write_pyfunc_folder(
    target: Path,
    model: Any,
    *,
    conda_env: str | Path | Mapping[str, Any] | None,
    code: str | Path | Sequence[str | Path] | None,
    artifacts: Mapping[str, str | Path] | None,
    python: str,
) -> None:
    """Write the folder into the empty directory ``target``.

    ``code`` are files and folders that the model imports; ``artifacts`` maps names to local paths;
    ``python`` is ``X.Y.*``. Everything is checked before the model is pickled.
    """
    environment = pack_environment(conda_env, python)
    sources = _existing(_code_paths(code), "code_dir")
    named = artifacts or {}
    files = dict(zip(named, _existing(named.values(), "artifacts"), strict=True))
    if not callable(getattr(model, "predict", None)) and not callable(
        getattr(model, "infer", None)
    ):
        raise InvalidArgument(
            f"model_instance is a {type(model).__name__}, which cannot predict.",
            hint="Pass an instance (not the class) of a subclass of merlin.model.PyFuncModel.",
        )
    for source in sources:
        _copy(source, target / "code" / source.name)
    flavor: dict[str, Any] = {
        "loader_module": "mlflow.pyfunc.model",
        "python_model": "python_model.pkl",
        "python_version": platform.python_version(),
        "cloudpickle_version": cloudpickle.__version__,
        "env": "conda.yaml",
        "artifacts": {},
    }
    if sources:
        flavor["code"] = "code"
    for name, source in files.items():
        path = f"artifacts/{source.name}"
        if (target / path).exists():
            path = f"artifacts/{name}/{source.name}"
        _copy(source, target / path)
        flavor["artifacts"][name] = {"path": path, "uri": source.name}
    _write_yaml(target / "conda.yaml", environment.conda)
    if environment.constraints:
        text = "".join(f"{line}\n" for line in environment.constraints)
        (target / CONSTRAINTS_FILE).write_text(text, encoding="utf-8")
    (target / "python_model.pkl").write_bytes(_pickled(model, sources))
    _write_yaml(target / "MLmodel", {"flavors": {"python_function": flavor}})


def _code_paths(code: str | Path | Sequence[str | Path] | None) -> list[str | Path]:
    if code is None:
        return []
    return [code] if isinstance(code, str | Path) else list(code)


def _existing(paths: Iterable[str | Path], argument: str) -> list[Path]:
    resolved = [Path(path).expanduser().resolve() for path in paths]
    for path in resolved:
        if not path.exists():
            raise InvalidArgument(f"{argument} names {path}, which does not exist.")
    return resolved


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=NOT_CODE, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False), encoding="utf-8")


def _pickled(model: Any, code: Sequence[Path]) -> bytes:
    with _by_value(_local_modules(type(model), code)):
        try:
            return bytes(cloudpickle.dumps(model))
        except (TypeError, pickle.PicklingError, AttributeError, RecursionError) as error:
            raise ModelNotPicklable(
                f"A {type(model).__name__} cannot be pickled: {error}."
            ) from error


@contextmanager
def _by_value(modules: list[ModuleType]) -> Iterator[None]:
    registered: list[ModuleType] = []
    try:
        for module in modules:
            if module.__name__ not in cloudpickle.list_registry_pickle_by_value():
                cloudpickle.register_pickle_by_value(module)
                registered.append(module)
        yield
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)


def _local_modules(model_class: type, code: Sequence[Path]) -> list[ModuleType]:
    """Modules of the model's classes that the image would not have: neither installed packages,
    nor in ``code``, nor ours. Their classes go into the pickle themselves."""
    shipped = [Path(path) for path in sysconfig.get_paths().values()] + list(code)
    found = []
    for cls in model_class.__mro__:
        module = sys.modules.get(cls.__module__)
        file = getattr(module, "__file__", None)
        if module is None or file is None or module.__name__.split(".")[0] == "merlin":
            continue
        if module.__name__ != "__main__" and not any(
            Path(file).resolve().is_relative_to(folder) for folder in shipped
        ):
            found.append(module)
    return found
