"""Turning Merlin's names into our settings, with a message for each.

What has no counterpart is said with its reason and left out; what is unknown is said too. Messages
never show a value of the database's or of an address, which may hold passwords.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from merlin_server.merlin_names import kaniko
from merlin_server.merlin_names import values as read
from merlin_server.merlin_names.environments_file import read_environments
from merlin_server.merlin_names.given import find_given, is_merlins
from merlin_server.merlin_names.table import KEYS, Mapped, Unused

_SCHEMES = {"s3": "s3", "gcs": "gs"}
_STORE_KIND = "MlflowConfig.ArtifactServiceType"
_ENVIRONMENTS = "ClusterConfig.EnvironmentConfigPath"
_MAY_HOLD_SECRETS = {"database_url", "tracking_url", "images.jobs.cluster"}


@dataclass
class Translation:
    """Our settings, what to tell the maintainer, and what cannot be."""

    values: dict[str, Any]
    messages: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def translate(values: Mapping[str, Any], environ: Mapping[str, str]) -> Translation:
    """Replace Merlin's names in settings read from files, and add those of the environment."""
    ours = {key: value for key, value in values.items() if not is_merlins(key)}
    result = Translation({key: _copied(value) for key, value in ours.items()})
    given = find_given(values, environ, result.faults)
    for name, value in given.items():
        match KEYS.get(name) or KEYS.get(f"{name}.*"):
            case Mapped() as known:
                _put(result, name, known, value)
            case Unused(reason):
                result.messages.append(f"{name} is not used: {reason}.")
            case None:
                result.messages.append(f"{name} is no key of Merlin's that is known here.")
    _put_database(result, given)
    _put_environments(result, given)
    registry = result.values.get("registry")
    if "ImageBuilderConfig.DockerRegistry" in given and isinstance(registry, dict):
        registry.setdefault("type", "docker")
    if _STORE_KIND in given:
        _check_kind_of_store(result, given[_STORE_KIND], environ)
    said = kaniko.choose(result.values, given, environ)
    result.messages.extend(said.messages)
    result.faults.extend(said.faults)
    return result


def _put(result: Translation, name: str, known: Mapped, given: Any) -> None:
    try:
        value = known.read(given)
    except (ValueError, TypeError) as error:
        result.faults.append(f"{name}: {error}.")
        return
    *sections, key = known.setting.split(".")
    place = result.values
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            return  # The section itself is wrong, which validation says.
    if key in place and place[key] != value:
        if known.setting in _MAY_HOLD_SECRETS:
            result.faults.append(f"{name} and {known.setting} say different things.")
        else:
            result.faults.append(f"{name} says {value!r}, and {known.setting} says {place[key]!r}.")
        return
    place[key] = value
    advice = f" ({known.advice})" if known.advice else ""
    result.messages.append(f"{name} is understood; here it is called {known.setting}{advice}.")


def _put_database(result: Translation, given: Mapping[str, Any]) -> None:
    """Merlin keeps an address in five keys; here it is one URL, and a file for the password."""
    names = ("Host", "Port", "User", "Password", "Database")
    parts = {name: str(given[f"DbConfig.{name}"]) for name in names if f"DbConfig.{name}" in given}
    if not parts:
        return
    said = " and ".join(f"DbConfig.{name}" for name in parts)
    if "database_url" in result.values:
        result.faults.append(f"{said} and database_url are both given.")
        return
    if "Host" not in parts:
        result.faults.append(f"{said}: DbConfig.Host is missing.")
        return
    port = parts.get("Port", "5432")
    if not port.isdigit():
        result.faults.append(f"DbConfig.Port: {port!r} is not a number.")
        return
    user = quote(parts.get("User", ""), safe="")
    password = f":{quote(parts['Password'], safe='')}" if parts.get("Password") else ""
    at = "@" if user or password else ""
    name = quote(parts.get("Database", "mlp"), safe="")
    result.values["database_url"] = (
        f"postgresql://{user}{password}{at}{parts['Host']}:{port}/{name}"
    )
    better = "; the password is better in a file that database_password_file names"
    result.messages.append(
        f"{said} are understood; here they are one database_url{better if password else ''}."
    )


def _put_environments(result: Translation, given: Mapping[str, Any]) -> None:
    if _ENVIRONMENTS not in given:
        return
    file = Path(str(given[_ENVIRONMENTS]))
    if "environments" in result.values:
        result.faults.append(f"{_ENVIRONMENTS} and environments are both given.")
        return
    try:
        found, messages = read_environments(file)
    except ValueError as error:
        result.faults.append(f"{_ENVIRONMENTS}: {error}.")
        return
    result.values["environments"] = found
    result.messages.append(
        f"{_ENVIRONMENTS} is understood; here its list stands under environments, each with its "
        "deployer."
    )
    result.messages.extend(messages)


def _check_kind_of_store(result: Translation, given: Any, environ: Mapping[str, str]) -> None:
    """Merlin names only the kind of blob store, so it must fit the URL that we need."""
    try:
        kind = read.store_kind(given)
    except ValueError as error:
        result.faults.append(f"{_STORE_KIND}: {error}.")
        return
    url = environ.get("MERLIN_ARTIFACTS_URL") or str(result.values.get("artifacts_url", ""))
    scheme = _SCHEMES.get(kind, "")
    if scheme and not url:
        result.faults.append(
            f"{_STORE_KIND} is {kind}, and artifacts_url, such as {scheme}://bucket/folder, is not "
            "set."
        )
    elif scheme and not url.startswith(f"{scheme}://"):
        result.faults.append(f"{_STORE_KIND} is {kind}, and artifacts_url is {url!r}.")
    else:
        result.messages.append(f"{_STORE_KIND} is understood; here artifacts_url tells it.")


def _copied(value: Any) -> Any:
    return (
        {key: _copied(below) for key, below in value.items()} if isinstance(value, dict) else value
    )
