"""``merlin status``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from cyclopts import Parameter

from merlin.cli.options import DEFAULTS, Common, ModelReference
from merlin.client.models import Model
from merlin.client.versions import ModelVersion
from merlin.endpoint import ModelEndpoint, Status, VersionEndpoint
from merlin.output.human import table

HEADER = ("MODEL", "TYPE", "VERSION", "ENVIRONMENT", "STATUS", "ADDRESS")
NONE = "-"


def status(
    model: str | None = None,
    /,
    *,
    explain: Annotated[bool, Parameter(negative=())] = False,
    common: Common = DEFAULTS,
) -> None:
    """Show what runs, and why something does not.

    For example:

      merlin status                         all models of the project
      merlin status cancer                  one model
      merlin status cancer:3 --explain      conditions, culprits and their last lines
      merlin status --output json

    Parameters
    ----------
    model
        MODEL or MODEL:VERSION; otherwise all models.
    explain
        Show every condition with its reason and culprit.
    """
    reference = ModelReference.parse(model) if model else None
    project = common.open_project()
    models = [reference.find_model(project)] if reference else project.list_model()
    wanted = reference.version if reference else None
    found = [(one, _versions(one, wanted), one.list_endpoint()) for one in models]
    rows = [row for one, versions, stable in found for row in _rows(one, versions, stable)]
    text = table(HEADER, rows) if rows else f"The project {project.name} has no models yet."
    if explain:
        reasons = [_explained(one, version) for one, versions, _ in found for version in versions]
        text = "\n\n".join([text, *filter(None, reasons)])
    documents = [_document(one, versions, stable) for one, versions, stable in found]
    common.tell(text, {"project": project.name, "models": documents})


def _versions(model: Model, wanted: int | None) -> list[ModelVersion]:
    return model.list_version() if wanted is None else [model.get_version(wanted)]


def _present(version: ModelVersion) -> list[VersionEndpoint]:
    found = version.version_endpoints or ()
    return [endpoint for endpoint in found if endpoint.status is not Status.TERMINATED]


def _rows(
    model: Model, versions: list[ModelVersion], stable: list[ModelEndpoint]
) -> Iterator[tuple[str, ...]]:
    addresses = {one.environment_name: one.url for one in stable if one.status is Status.SERVING}
    shown = [(version, endpoint) for version in versions for endpoint in _present(version)]
    for version, endpoint in shown:
        serving = endpoint.status is Status.SERVING
        address = addresses.get(endpoint.environment_name) if serving else endpoint.url
        name, kind = model.name, model.type.value
        place = endpoint.environment_name
        yield name, kind, str(version.id), place, endpoint.status.value, address or NONE
    if not shown:
        newest = str(max((version.id for version in versions), default=NONE, key=str))
        yield model.name, model.type.value, newest, NONE, "not deployed", NONE


def _explained(model: Model, version: ModelVersion) -> str:
    lines: list[str] = []
    for endpoint in version.list_endpoint():
        if endpoint.status is Status.TERMINATED:
            continue
        place = endpoint.environment_name
        lines.append(f"{model.name} version {version.id} in {place}: {endpoint.status.value}")
        if endpoint.message:
            lines.append(f"  {endpoint.message}")
        for condition in endpoint.conditions or ():
            mark = "yes" if condition.status else "no"
            when = f" ({condition.time:%Y-%m-%d %H:%M:%S})" if condition.time else ""
            reason = ": ".join(filter(None, (condition.reason, condition.message)))
            lines.append(f"  {condition.type}: {mark}{when} {reason}".rstrip())
            lines += _culprit(condition.culprit or {})
    return "\n".join(lines)


def _culprit(culprit: dict[str, Any]) -> Iterator[str]:
    if "container" in culprit:
        code = culprit.get("exit_code")
        yield f"    {culprit['container']}{f' exited with {code}' if code is not None else ''}"
    last = culprit.get("last_lines") or ()
    for line in last.splitlines() if isinstance(last, str) else last:
        yield f"    | {line}"


def _document(
    model: Model, versions: list[ModelVersion], stable: list[ModelEndpoint]
) -> dict[str, Any]:
    return {
        "name": model.name,
        "type": model.type.value,
        "addresses": [
            {"environment": one.environment_name, "url": one.url, "status": one.status.value}
            for one in stable
        ],
        "versions": [
            {"version": version.id, "endpoints": [_endpoint(one) for one in _present(version)]}
            for version in versions
        ],
    }


def _endpoint(endpoint: VersionEndpoint) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "environment": endpoint.environment_name,
        "status": endpoint.status.value,
        "url": endpoint.url,
        "message": endpoint.message or "",
        "conditions": [one.model_dump(mode="json") for one in endpoint.conditions or ()],
    }
