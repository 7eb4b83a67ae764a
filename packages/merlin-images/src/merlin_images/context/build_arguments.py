"""Build arguments: which of Merlin's names mean what here, and which are refused.

A build argument stands in the image's history and in the environment of the steps that run user
code, so none may carry a secret. Credentials are never needed there: all is fetched before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from merlin_images.context.errors import BuildArgumentRefused
from merlin_images.environments.requirement_lines import without_credentials

HONOURED: Mapping[str, str] = MappingProxyType(
    {
        "BASE_IMAGE": "the image that the Dockerfile starts from",
        "MODEL_DEPENDENCIES_URL": "recorded in a label; the environment file is fetched before",
        "MODEL_ARTIFACTS_URL": "recorded in a label; the model is fetched before",
        "MLFLOW_ARTIFACT_STORAGE_TYPE": "must agree with the model's URL, which decides",
        "MERLIN_DEP_CONSTRAINT": "the version of our runtime must meet it",
        "AWS_DEFAULT_REGION": "accepted; our Dockerfiles fetch nothing from a store",
        "AWS_ENDPOINT_URL": "accepted; our Dockerfiles fetch nothing from a store",
        "MODEL_NAME": "name the model's server answers to",
        "MODEL_VERSION": "version the model's server answers to",
        "MODEL_TYPE": "recorded in a label",
    }
)
"""What each argument that our Dockerfiles take does."""

CREDENTIALS = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "GOOGLE_APPLICATION_CREDENTIALS",
    }
)
"""Credentials that Merlin's Dockerfiles take as arguments."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_SECRET = re.compile(
    r"SECRET|PASSW|TOKEN|CREDENTIAL|ACCESS_KEY|API_?KEY|PRIVATE_KEY", re.IGNORECASE
)
_LONGEST = 4096
# The words of Merlin's configuration -> URL schemes they stand for; other words mean no store.
_STORES = {
    "gcs": {"gs"},
    "s3": {"s3"},
    "azure": {"az", "abfs", "abfss", "wasbs"},
}


def parse_build_arguments(lines: Iterable[str]) -> dict[str, str]:
    """Return ``NAME=VALUE`` lines as a mapping; the last of a name counts.

    Raises `BuildArgumentRefused`; no message repeats a value.
    """
    arguments: dict[str, str] = {}
    for line in lines:
        name, equals, value = line.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise BuildArgumentRefused(
                f"{name[:80]!r} is no name of a build argument with a value.",
                hint="Write it as NAME=VALUE.",
            )
        _check_value(name, value)
        arguments[name] = value
    return arguments


def check_storage_type(arguments: Mapping[str, str], model_url: str) -> None:
    """Refuse a storage type that is not the one of the model's URL."""
    stated = arguments.get("MLFLOW_ARTIFACT_STORAGE_TYPE", "")
    scheme = urlsplit(model_url).scheme
    if stated in _STORES and scheme not in _STORES[stated]:
        raise BuildArgumentRefused(
            f"MLFLOW_ARTIFACT_STORAGE_TYPE is {stated}, but the model's URL starts with {scheme}:.",
            hint="Leave it out: the URL says where the model is.",
            argument="MLFLOW_ARTIFACT_STORAGE_TYPE",
        )


def check_runtime_constraint(arguments: Mapping[str, str], version: str) -> None:
    """Refuse a constraint that the runtime going into the image does not meet."""
    constraint = arguments.get("MERLIN_DEP_CONSTRAINT", "")
    try:
        met = SpecifierSet(constraint).contains(version, prereleases=True)
    except InvalidSpecifier:
        raise BuildArgumentRefused(
            "MERLIN_DEP_CONSTRAINT is no version specifier.",
            hint=f"Write it as =={version}, for instance, or leave it out.",
            argument="MERLIN_DEP_CONSTRAINT",
        ) from None
    if not met:
        raise BuildArgumentRefused(
            f"MERLIN_DEP_CONSTRAINT is {constraint}, but the runtime is merlin-runtime {version}.",
            hint="Leave it out, or build with the release of Merlin it asks for.",
            argument="MERLIN_DEP_CONSTRAINT",
        )


def _check_value(name: str, value: str) -> None:
    if name in CREDENTIALS or _SECRET.search(name):
        raise BuildArgumentRefused(
            f"The build argument {name} would put a credential into the image's history and in "
            "front of the model's own code.",
            hint="Leave it out: the model and the base image are fetched before the build, with "
            "credentials that are mounted where no user code runs.",
            argument=name,
        )
    if not value.isprintable() or len(value) > _LONGEST:
        raise BuildArgumentRefused(
            f"The value of the build argument {name} is not one printable line.", argument=name
        )
    if without_credentials(value) != value:
        raise BuildArgumentRefused(
            f"The build argument {name} is a URL with credentials or a query in it.",
            hint="Take them out of the URL.",
            argument=name,
        )
