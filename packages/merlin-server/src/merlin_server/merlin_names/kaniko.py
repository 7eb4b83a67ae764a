"""What a configuration that builds with Kaniko means where several keys have a say together.

Merlin always builds with Kaniko, and which secrets a Job mounts follows from the kinds of registry
and store and from the service account (merlin.md 3.5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from merlin_images.builders.jobs.credentials import may_hold_secret
from merlin_server.merlin_names import values as read

# What only says where the build cluster is, or which Kaniko to run, asks for Kaniko.
_ASKING = ("KanikoImage", "K8sConfig", "ClusterName")
_LOGIN = "ImageBuilderConfig.KanikoDockerCredentialSecretName"
_VARIABLES = "ImageBuilderConfig.KanikoAPIServerEnvVars"
_GOOGLE_SECRET = "kaniko-secret"  # noqa: S105  Merlin's name of a secret, not one
_JOBS = "images.jobs"


class Said(NamedTuple):
    """Messages for the maintainer, and contradictions."""

    messages: list[str]
    faults: list[str]


def choose(values: dict[str, Any], given: Mapping[str, Any], environ: Mapping[str, str]) -> Said:
    """Complete our settings, in place, by what Merlin's names together ask for."""
    said = Said([], [])
    if not any(name.startswith("ImageBuilderConfig.") for name in given):
        return said
    images = values.setdefault("images", {})
    jobs = images.setdefault("jobs", {}) if isinstance(images, dict) else None
    if not isinstance(jobs, dict):
        return said  # The section itself is wrong, which validation says.
    _choose_builder(images, given, environ, said)
    _put_secrets(values, jobs, given, said)
    if _VARIABLES in given:
        _put_variables(jobs, given[_VARIABLES], environ, said)
    return said


def _asked(given: Mapping[str, Any]) -> list[str]:
    return [name for key in _ASKING if (name := f"ImageBuilderConfig.{key}") in given]


def _choose_builder(
    images: dict[str, Any], given: Mapping[str, Any], environ: Mapping[str, str], said: Said
) -> None:
    asked = _asked(given)
    if not asked:
        return
    chosen = environ.get("MERLIN_IMAGES__BUILDER") or images.get("builder")
    if chosen:
        said.messages.append(f"{asked[0]} asks for Kaniko, and images.builder says {chosen}.")
        return
    images["builder"] = "kaniko"
    said.messages.append(
        f"{asked[0]} asks for Kaniko, so images.builder is kaniko (native-job does the same "
        "without a Dockerfile and without root)."
    )


def _put_secrets(
    values: Mapping[str, Any], jobs: dict[str, Any], given: Mapping[str, Any], said: Said
) -> None:
    google = values.get("registry", {}).get("type") == "gcr"
    if _LOGIN in given and not google:
        _put(jobs, "registry_secret", str(given[_LOGIN]), _LOGIN, said)
        said.messages.append(f"{_LOGIN} is understood; here it is called {_JOBS}.registry_secret.")
    elif _LOGIN in given:
        said.messages.append(f"{_LOGIN} is not used: a registry of type gcr takes a Google key.")
    if not _asked(given) or jobs.get("service_account"):
        return
    kinds = {"registry_secret": google, "store_secret": _store_kind(given) == "gcs"}
    for setting in (name for name, needed in kinds.items() if needed and name not in jobs):
        jobs[setting] = _GOOGLE_SECRET
        said.messages.append(
            f"Without KanikoServiceAccount the secret {_GOOGLE_SECRET} is mounted; here it is "
            f"called {_JOBS}.{setting}."
        )


def _put_variables(
    jobs: dict[str, Any], listed: Any, environ: Mapping[str, str], said: Said
) -> None:
    """Merlin copied variables of its own into every Job; only what is no secret is copied here."""
    names = read.texts(listed)
    secret = [name for name in names if may_hold_secret(name, environ.get(name, ""))]
    environment = jobs.setdefault("environment", {})
    for name in names:
        if name not in secret and name in environ and isinstance(environment, dict):
            _put(environment, name, environ[name], _VARIABLES, said, section=f"{_JOBS}.environment")
    if len(secret) < len(names):
        said.messages.append(
            f"{_VARIABLES} is understood for what is no secret; here it is called "
            f"{_JOBS}.environment, with names and values."
        )
    if not secret:
        return
    why = (
        f"{_VARIABLES} names {', '.join(secret)}, which would stand readable in every Job and in "
        f"reach of the model's code; put the credentials into a Kubernetes secret that "
        f"{_JOBS}.store_secret names, or use a service account"
    )
    covered = jobs.get("store_secret") or jobs.get("service_account")
    (said.messages if covered else said.faults).append(f"{why}.")


def _put(
    place: dict[str, Any],
    key: str,
    value: str,
    name: str,
    said: Said,
    *,
    section: str = _JOBS,
) -> None:
    if place.setdefault(key, value) != value:
        said.faults.append(f"{name} says {value!r}, and {section}.{key} says {place[key]!r}.")


def _store_kind(given: Mapping[str, Any]) -> str:
    return str(given.get("MlflowConfig.ArtifactServiceType", ""))
