"""Writing a build context: a folder in which a Dockerfile finds all it needs.

    Dockerfile .dockerignore      what is built, and what of the folder is no part of it
    .python-version requirements.txt constraints.txt uv.toml
                                  the environment, as uv reads it; conda.yaml says the same
    packages.txt                  Debian packages, one a line
    wheels/ runtime.txt           our own packages, and the lines that install them
    model/                        the model folder
    context.json                  what it was made from

Nothing of the model is run. The same inputs give the same bytes, modes and times, so builders find
the layers they made before.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from merlin.artifacts import open_store
from merlin.artifacts.folders import download_folder
from merlin.artifacts.local import LocalStore
from merlin.progress import Progress, step
from merlin_images.context.build_arguments import check_runtime_constraint, check_storage_type
from merlin_images.context.environment_files import environment_files, read_specification, split_url
from merlin_images.context.errors import ContextRefused
from merlin_images.context.wheels import runtime_wheels
from merlin_images.context.whole_folder import replacing
from merlin_images.environments.requirement_lines import without_credentials
from merlin_images.environments.runtime_requirements import runtime_requirements
from merlin_images.environments.system_packages import read_system_packages
from merlin_images.image.manifest import canonical_json
from merlin_images.layers.errors import SourceChanged
from merlin_images.layers.model import ModelFolder, list_model
from merlin_images.layers.runtime import Runtime, check_python, read_runtime
from merlin_images.layers.tar import LAYER_TIME

Kind = Literal["online", "batch"]

FACTS = "context.json"

_FORMAT = "context/1"
_DOCKERFILES = {"online": "pyfunc-server", "batch": "batch-predictor"}
_MODEL_TYPES = {"online": "pyfunc", "batch": "pyfunc_v2"}
_LARGEST_DOCKERFILE = 1 << 20


@dataclass(frozen=True)
class ContextRequest:
    """What to write.

    ``python`` (``3.11``) counts where the environment names none; ``environment_url`` names an
    environment file to take instead of the model's own; ``dockerfile`` one to take instead of ours
    for the kind; an empty ``model_type`` is the kind's own. ``build_arguments`` are those the
    builder will be given; they come from `parse_build_arguments`. ``index_url`` is a package index
    instead of PyPI, where the environment names none; it holds no credentials.
    """

    model_url: str
    kind: Kind
    python: str
    environment_url: str = ""
    model_type: str = ""
    dockerfile: Path | None = None
    build_arguments: Mapping[str, str] = field(default_factory=dict)
    index_url: str = ""


@dataclass(frozen=True)
class WrittenContext:
    """The outcome. ``facts`` are what context.json says, ``written`` is false if the folder was
    there already; ``notes`` are things the user should know."""

    folder: Path
    facts: Mapping[str, Any]
    written: bool

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self.facts["notes"])


def write_context(request: ContextRequest, folder: Path, progress: Progress) -> WrittenContext:
    """Write the context to ``folder``, where it appears whole or replaces an older one whole.

    Does nothing if the same is there already; the model is listed to know that, not read. Raises
    `ContextRefused`, `BuildArgumentRefused`, and for the model and its environment what the native
    builder raises.
    """
    if without_credentials(request.index_url) != request.index_url:
        raise ContextRefused(
            "The package index would carry credentials to the model's code.",
            hint="Give an address without them, such as a proxy's inside the cluster.",
        )
    runtime = read_runtime()
    check_storage_type(request.build_arguments, request.model_url)
    check_runtime_constraint(request.build_arguments, runtime.version)
    dockerfile = _dockerfile(request)
    with step(progress, "List the model") as running:
        model = list_model(open_store(request.model_url), "")
        running.detail = f"{len(model.files)} files"
    key = _key(request, model, runtime, dockerfile)
    held = _facts(folder)
    if held is not None and held["key"] == key:
        return WrittenContext(folder, held, written=False)
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    with replacing(folder) as staged:
        _fetch(model, staged / "model", progress)
        facts = _write(request, staged, runtime, dockerfile)
        facts |= {"key": key, "files": len(model.files)}
        _file(staged, FACTS, json.dumps(facts, indent=2, sort_keys=True).encode() + b"\n")
        _fix(staged)
    return WrittenContext(folder, facts, written=True)


def default_dockerfile(kind: Kind) -> bytes:
    """Return our own Dockerfile for models of a kind."""
    place = files("merlin_images.context") / "dockerfiles" / _DOCKERFILES[kind]
    return (place / "app.Dockerfile").read_bytes()


def _dockerfile(request: ContextRequest) -> bytes:
    if request.dockerfile is None:
        return default_dockerfile(request.kind)
    try:
        with request.dockerfile.open("rb") as file:
            content = file.read(_LARGEST_DOCKERFILE + 1)
    except OSError as error:
        raise ContextRefused(
            f"The Dockerfile {request.dockerfile} cannot be read: {error.strerror}."
        ) from error
    if len(content) > _LARGEST_DOCKERFILE:
        raise ContextRefused(f"The Dockerfile {request.dockerfile} is larger than 1 MiB.")
    return content


def _facts(folder: Path) -> Mapping[str, Any] | None:
    """Return what a folder says it is made from; refuse to replace what is no context."""
    try:
        facts = json.loads((folder / FACTS).read_bytes())
        if isinstance(facts, dict) and isinstance(facts.get("key"), str) and "notes" in facts:
            return facts
    except FileNotFoundError:
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return None
    except (OSError, ValueError):
        pass
    raise ContextRefused(
        f"{folder} holds something else than a build context.",
        hint="Name a folder that does not exist yet, or an empty one.",
    )


def _fetch(model: ModelFolder, folder: Path, progress: Progress) -> None:
    total = sum(file.size for file in model.files)
    with step(progress, f"Fetch {len(model.files)} files of the model", total=total) as running:
        download_folder(model.store, model.folder, folder, on_bytes=running.advance)
    if list_model(model.store, model.folder) != model:
        raise SourceChanged("The model changed while it was fetched.")


def _write(
    request: ContextRequest, folder: Path, runtime: Runtime, dockerfile: bytes
) -> dict[str, Any]:
    model = LocalStore(folder / "model", durable=False)
    spec = read_specification(
        model,
        request.environment_url,
        model_type=request.model_type or _MODEL_TYPES[request.kind],
        python=request.python,
    )
    check_python(runtime, spec.python)
    packages = read_system_packages(model, "").packages
    wheels = runtime_wheels(runtime)
    contents = {
        **environment_files(spec, runtime_requirements(), request.index_url),
        "Dockerfile": dockerfile,
        ".dockerignore": f"Dockerfile\n.dockerignore\n{FACTS}\n".encode(),
        "packages.txt": "".join(f"{name}\n" for name in packages).encode(),
        "runtime.txt": "".join(f"./wheels/{name}\n" for name in wheels).encode(),
        **{f"wheels/{name}": content for name, content in wheels.items()},
    }
    for name, content in contents.items():
        _file(folder, name, content)
    return {
        "kind": request.kind,
        "model_url": without_credentials(request.model_url),
        "python": spec.python,
        "runtime": runtime.version,
        "build_arguments": dict(request.build_arguments),
        "notes": list(spec.notes),
    }


def _file(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def _fix(folder: Path) -> None:
    """Give every file one mode and time: builders put both into layers, and users read them."""
    for place, _, names in os.walk(folder):
        Path(place).chmod(0o755)
        for name in names:
            path = Path(place, name)
            path.chmod(0o644)
            os.utime(path, (LAYER_TIME, LAYER_TIME))
        os.utime(place, (LAYER_TIME, LAYER_TIME))


def _key(request: ContextRequest, model: ModelFolder, runtime: Runtime, dockerfile: bytes) -> str:
    inputs = {
        "format": _FORMAT,
        "model": model.key,
        "kind": request.kind,
        "model_type": request.model_type,
        "python": request.python,
        "environment": request.environment_url,
        "environment_version": _version(request.environment_url),
        "dockerfile": hashlib.sha256(dockerfile).hexdigest(),
        "build_arguments": dict(request.build_arguments),
        **({"index": request.index_url} if request.index_url else {}),
        "runtime": runtime.key,
        "runtime_requirements": runtime_requirements(),
    }
    return hashlib.sha256(canonical_json(inputs)).hexdigest()


def _version(url: str) -> str:
    """Tell versions of the environment file apart."""
    if not url:
        return ""
    folder, name = split_url(url)
    return open_store(folder).head(name).etag
