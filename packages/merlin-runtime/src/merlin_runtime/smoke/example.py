"""The input example that MLflow keeps beside a model, as a request of this server."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional

from merlin_runtime.models.mlmodel_file import parse_mlmodel
from merlin_runtime.serving.codecs import parse_json

_INPUT = "input_example.json"
_SERVING = "serving_input_example.json"


class Example(NamedTuple):
    """``request`` is what a client would send; ``file`` is where it comes from."""

    file: str
    request: Any


def logged_example(folder: Path, kind: str) -> Optional[Example]:
    """Return the example logged with a model of this kind, or ``None`` if there is none in JSON.

    A Python function is given what was logged, for nobody but its author knows its requests. Other
    models take rows, which MLflow keeps in several forms. Raises `NotJson`.
    """
    info = _described(folder)
    names = [
        str(info.get("serving_input_path") or _SERVING),
        str(info.get("artifact_path") or _INPUT),
    ]
    if kind == "pyfunc":
        names.reverse()
    for name in names:
        if name.endswith(".json") and (folder / name).is_file():
            document = parse_json((folder / name).read_bytes())
            return Example(name, document if kind == "pyfunc" else rows_request(document))
    return None


def rows_request(document: Any) -> Any:
    """Return MLflow's forms of a table as ``{"instances": rows}``, and all else as it is."""
    if isinstance(document, list):
        return {"instances": document}
    if not isinstance(document, dict):
        return document
    table = document.get("dataframe_split", document)
    if isinstance(table, dict) and isinstance(table.get("data"), list):
        return {"instances": table["data"]}
    if "dataframe_records" in document:
        return {"instances": document["dataframe_records"]}
    return document


def _described(folder: Path) -> Dict[str, Any]:
    try:
        document = parse_mlmodel((folder / "MLmodel").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}  # Whether the model can do without it, loading it has told.
    info = document.get("saved_input_example_info")
    return info if isinstance(info, dict) else {}
