"""What of the settings contradicts itself, or names what is not there: one sentence a fault.

All faults are found at once, across sections, before anything is started. Nothing is asked of a
network: that is what ``merlin doctor`` does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from merlin_images.builders.jobs.errors import JobOptionsInvalid
from merlin_images.builders.jobs.manifest import check_options
from merlin_images.registry.credentials.choose import cloud_of
from merlin_images.registry.errors import InvalidReference
from merlin_images.registry.reference import parse_reference
from merlin_server.images.builders import job_builders, job_options
from merlin_server.settings import RegistrySettings, Section, Settings

_ECR_WITH_REGION = re.compile(r"\.dkr[.-]ecr(?:-fips)?\.[a-z0-9-]+\.")
_NAMED_FILES = ("docker_config", "kubeconfig")
_STORES = {
    "s3": ("s3",),
    "gcs": ("gs",),
    "azure": ("az", "abfs", "abfss", "wasbs"),
}


class Fault(NamedTuple):
    """``key`` is the setting to mend; ``reason`` continues it after a colon."""

    key: str
    reason: str


def find_faults(settings: Settings) -> list[Fault]:
    """Return every fault, in the order of the settings; none quotes a secret."""
    return [
        *_general(settings),
        *_database(settings),
        *_artifacts(settings),
        *_environments(settings),
        *_registry(settings.registry),
        *_images(settings),
        *_jobs(settings),
        *_files(settings, ""),
    ]


def _general(settings: Settings) -> Iterator[Fault]:
    for key in ("public_url", "tracking_url"):
        url = getattr(settings, key)
        if url and not _is_web_address(url):
            yield Fault(key, "it is not an address such as https://merlin.example.com")
    if reason := _unwritable(settings.data_dir.absolute()):
        yield Fault("data_dir", f"{settings.data_dir} cannot be made or written to: {reason}")


def _database(settings: Settings) -> Iterator[Fault]:
    if not settings.database_url:
        if settings.database_password_file is not None:
            yield Fault("database_password_file", "it is given, and database_url is not")
        return
    try:
        url = make_url(settings.database_url)
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):
        yield Fault("database_url", "it is not a URL such as postgresql://user@host:5432/merlin")
        return
    if backend not in {"postgresql", "postgres", "sqlite"}:
        yield Fault("database_url", f"{backend} is neither postgresql nor sqlite")
    if url.password is not None and settings.database_password_file is not None:
        yield Fault(
            "database_password_file", "it is given, and database_url holds a password as well"
        )


def _artifacts(settings: Settings) -> Iterator[Fault]:
    url = settings.artifacts_url
    scheme = url.partition(":")[0] if ":" in url else ""
    if url and not scheme and not url.startswith("/"):
        yield Fault("artifacts_url", f"{url!r} is neither a URL nor an absolute folder")
    for name, schemes in _STORES.items():
        section: Section = getattr(settings.artifacts, name)
        if section.model_fields_set and scheme not in schemes:
            yield Fault(
                f"artifacts.{name}",
                f"it is for {schemes[0]}:// URLs, and artifacts_url is {_shown(url)}",
            )
        endpoint = getattr(section, "endpoint_url", "")
        if endpoint and not _is_web_address(endpoint):
            yield Fault(
                f"artifacts.{name}.endpoint_url",
                "it is not an address such as https://storage.example.com",
            )
        elif endpoint.startswith("http://") and getattr(section, "ca_file", None):
            yield Fault(f"artifacts.{name}.ca_file", "it is given, and endpoint_url is plain http")
    s3, azure = settings.artifacts.s3, settings.artifacts.azure
    if (s3.access_key_id_file is None) != (s3.secret_access_key_file is None):
        yield Fault(
            "artifacts.s3", "access_key_id_file and secret_access_key_file go together; one is set"
        )
    if s3.access_key_id_file and (s3.credentials_file or s3.profile):
        yield Fault("artifacts.s3", "it names key files and a profile, and only one can count")
    yield from _at_most_one(
        "artifacts.azure",
        azure,
        ("connection_string_file", "account_key_file", "sas_token_file", "client_id"),
    )


def _environments(settings: Settings) -> Iterator[Fault]:
    names = [environment.name for environment in settings.environments]
    if len(set(names)) != len(names):
        yield Fault("environments", "two have the same name")
    if sum(environment.is_default for environment in settings.environments) != 1:
        yield Fault("environments", "exactly one must have is_default: true")


def _registry(registry: RegistrySettings) -> Iterator[Fault]:
    yield from _at_most_one(
        "registry", registry, ("docker_config", "password_file", "google_key_file")
    )
    kind = registry.type
    if kind in {"builtin", "layout"}:
        for name in ("docker_config", "password_file", "username", "google_key_file", "aws_region"):
            if getattr(registry, name):
                yield Fault(f"registry.{name}", f"it is given, and type {kind} asks for none")
        for name in ("insecure", "ca_file"):
            if getattr(registry, name):
                yield Fault(f"registry.{name}", f"it is given, and type {kind} needs no network")
    elif registry.google_key_file is not None and kind != "gcr":
        yield Fault("registry.google_key_file", f"it is given, and type is {kind}, not gcr")
    elif registry.aws_region and kind != "ecr":
        yield Fault("registry.aws_region", f"it is given, and type is {kind}, not ecr")
    if registry.username and registry.password_file is None and kind not in {"builtin", "layout"}:
        yield Fault("registry.username", "it is given without password_file")
    if registry.insecure and registry.ca_file is not None:
        yield Fault("registry.ca_file", "it is given, and insecure is plain HTTP, without TLS")
    yield from _registry_prefix(registry)


def _registry_prefix(registry: RegistrySettings) -> Iterator[Fault]:
    key, kind, prefix = "registry.prefix", registry.type, registry.prefix
    if kind == "builtin":
        if prefix:
            yield Fault(
                key, f"it is {prefix!r}, and type is builtin; set type to docker, gcr or ecr"
            )
        return
    if not prefix:
        example = "a folder" if kind == "layout" else "one, such as registry.example.com/ml"
        yield Fault(key, f"it is not set, and type is {kind}; give {example}")
        return
    if "://" in prefix:
        what = "a folder" if kind == "layout" else "a host and path, without scheme"
        yield Fault(key, f"{_shown(prefix)} is a URL, and type {kind} needs {what}")
        return
    if kind != "layout":
        yield from _registry_host(registry)


def _registry_host(registry: RegistrySettings) -> Iterator[Fault]:
    key, kind, prefix = "registry.prefix", registry.type, registry.prefix
    if "@" in prefix:
        yield Fault(key, "it holds an @; a user goes to username, and images have tags here")
        return
    host = prefix.partition("/")[0]
    try:
        parse_reference(f"{prefix.rstrip('/')}/project/model")
    except InvalidReference as error:
        yield Fault(key, error.message.rstrip("."))
        return
    if kind == "gcr" and cloud_of(host) != "gcr":
        yield Fault(key, f"{host} is no host of Google's (*.pkg.dev, gcr.io), and type is gcr")
    if kind == "gcr" and host.endswith(".pkg.dev") and prefix.strip("/").count("/") < 2:
        yield Fault(key, f"Artifact Registry's are {host}/PROJECT/REPOSITORY")
    if kind == "ecr" and not _ECR_WITH_REGION.search(host) and not registry.aws_region:
        yield Fault(key, f"{host} is no host of ECR that tells its region; set aws_region")


def _images(settings: Settings) -> Iterator[Fault]:
    url = settings.images.index_url
    if url and not _is_web_address(url):
        yield Fault("images.index_url", "it is not an address such as https://pypi.example.com")
    elif url and _split(url).username:
        yield Fault("images.index_url", "it holds a user or password, which images would show")
    if not settings.images.python_versions:
        yield Fault("images.python_versions", "it is empty, so every build would fail")


def _jobs(settings: Settings) -> Iterator[Fault]:
    jobs = settings.images.jobs
    if jobs.kubeconfig is not None and jobs.cluster:
        yield Fault("images.jobs.cluster", "it is given, and kubeconfig is given as well")
    elif jobs.cluster and not isinstance(jobs.cluster.get("cluster"), dict):
        yield Fault("images.jobs.cluster", "it has no section cluster, as a kubeconfig has it")
    said = set()
    for name in job_builders(settings):
        if settings.registry.type == "layout":
            yield Fault("registry.type", f"it is layout, a folder no {name} Job can reach")
        try:
            check_options(job_options(settings, name))
        except JobOptionsInvalid as error:
            if error.message not in said:
                said.add(error.message)
                yield Fault("images.jobs", error.message.rstrip("."))


def _files(section: Section, path: str) -> Iterator[Fault]:
    """Every file that is named must be there and readable, whatever section names it."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _files(value, f"{path}{name}.")
        elif isinstance(value, Path) and (name.endswith("_file") or name in _NAMED_FILES):
            if not value.exists():
                yield Fault(f"{path}{name}", f"there is no {value}")
            elif name.endswith("_file") and not value.is_file():
                yield Fault(f"{path}{name}", f"{value} is not a file")
            elif not os.access(value, os.R_OK):
                yield Fault(f"{path}{name}", f"{value} may not be read by this user")


def _at_most_one(key: str, section: Section, names: tuple[str, ...]) -> Iterator[Fault]:
    given = [name for name in names if getattr(section, name)]
    if len(given) > 1:
        yield Fault(key, f"{' and '.join(given)} are given, and only one of them can count")


def _unwritable(folder: Path) -> str:
    for place in (folder, *folder.parents):
        if place.is_dir():
            return "" if os.access(place, os.W_OK | os.X_OK) else f"{place} may not be written to"
        if place.exists():
            return f"{place} is not a folder"
    return ""


def _is_web_address(url: str) -> bool:
    parts = _split(url)
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises for a port that is none
    except ValueError:
        return urlsplit("")
    return parts


def _shown(url: str) -> str:
    """A URL without what may be secret in it."""
    return repr(re.sub(r"//[^/@]*@", "//", url).partition("?")[0]) if url else "not set"
