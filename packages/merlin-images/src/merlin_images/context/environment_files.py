"""The files of a build context that say what is installed: written from data, never from text.

The environment file of the model is read into a specification (our own packages taken out of it,
see `merlin_images.environments.files`), what our runtime needs is added, and the files for uv are
written from that. Each line is a requirement that was parsed; no byte of the user's file is copied.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

import yaml

from merlin.artifacts import open_store
from merlin.artifacts.errors import ArtifactNotFound
from merlin.artifacts.memory import MemoryStore
from merlin.artifacts.store import ArtifactStore
from merlin_images.environments.errors import EnvironmentInvalid
from merlin_images.environments.files import read_environment
from merlin_images.environments.model import EnvironmentSpec

_NAMES = ("conda.yaml", "python_env.yaml", "requirements.txt")
_LARGEST = 1 << 20
# uv's names in uv.toml, for the options that requirements files may hold.
_LISTS = {"--extra-index-url": "extra-index-url", "--find-links": "find-links"}
_TEXTS = {"--index-url": "index-url", "--prerelease": "prerelease"}


def read_specification(
    model: ArtifactStore, environment_url: str, *, model_type: str, python: str
) -> EnvironmentSpec:
    """Read the environment of a model, from a file elsewhere if ``environment_url`` names one.

    A file elsewhere is a conda.yaml unless its name says otherwise. Raises the errors of
    `read_environment`, and what the store of the URL raises.
    """
    if not environment_url:
        return read_environment(model, "", model_type=model_type, python=python)
    folder, name = split_url(environment_url)
    content = b"".join(open_store(folder).read(name, length=_LARGEST + 1))
    # What else counts for an environment is the Python version that the model's MLmodel records.
    held = MemoryStore()
    held.write(next((known for known in _NAMES if name.endswith(known)), _NAMES[0]), [content])
    with suppress(ArtifactNotFound):
        held.write("MLmodel", model.read("MLmodel"))
    return read_environment(held, "", model_type=model_type, python=python)


def environment_files(
    spec: EnvironmentSpec, runtime_requirements: Iterable[str], index_url: str = ""
) -> Mapping[str, bytes]:
    """Return the files by name: what uv reads, and a conda.yaml of the same content for
    Dockerfiles that want one. ``index_url`` counts where the environment names no index. Raises
    `EnvironmentInvalid` for what no such file can say."""
    index_options = list(spec.index_options)
    if index_url and not any(option.startswith("--index-url=") for option in index_options):
        index_options.insert(0, f"--index-url={index_url}")
    requirements = sorted({*spec.requirements, *runtime_requirements})
    for line in (*requirements, *spec.constraints, *index_options):
        if not line.isprintable():
            raise EnvironmentInvalid(f"{line[:200]!r} holds a character that no line may hold.")
    conda = {
        "name": "merlin-model",
        "dependencies": [f"python={spec.python}", "pip", {"pip": requirements}],
    }
    return {
        ".python-version": f"{spec.python}\n".encode(),
        "requirements.txt": _lines(requirements),
        "constraints.txt": _lines(spec.constraints),
        "uv.toml": _lines(_uv_settings(index_options)),
        "conda.yaml": yaml.safe_dump(conda, sort_keys=False, allow_unicode=True).encode(),
    }


def split_url(url: str) -> tuple[str, str]:
    """Return the folder and the name of the object that a URL names."""
    folder, _, name = url.rstrip("/").rpartition("/")
    return folder, name


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _uv_settings(options: Iterable[str]) -> Iterator[str]:
    """Write the index options as settings of uv; a TOML string is spelt like one of JSON's."""
    lists: dict[str, list[str]] = {}
    for option in options:
        name, _, value = option.partition("=")
        if name in _TEXTS:
            yield f"{_TEXTS[name]} = {_quoted(value)}"
        else:
            lists.setdefault(_LISTS[name], []).append(_quoted(value))
    for name, values in lists.items():
        yield f"{name} = [{', '.join(values)}]"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
