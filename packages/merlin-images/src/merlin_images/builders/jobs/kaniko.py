"""The step that builds with Kaniko: offline as to registries, into an OCI layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from merlin_images.builders.jobs.errors import JobOptionsInvalid
from merlin_images.builders.jobs.options import JobOptions
from merlin_images.builders.jobs.plan import BASE, CACHE, CONTEXT, IMAGE, BuildPlan

BASE_FORMAT = "kaniko-cache"
BUILT = IMAGE

# What would send something to a registry from the step that runs the model's code.
_PUSHES = ("--cache-repo", "--destination", "-d", "--image-name-with-digest-file")
_OURS = (
    "--dockerfile", "-f", "--context", "-c", "--context-sub-path", "--no-push", "--tar-path",
    "--oci-layout-path", "--cache-dir", "--digest-file",
)  # fmt: skip
_CREDENTIALS = ("--git", "--secret", "--registry-certificate", "--registry-client-cert")
_SECRET_WORDS = ("KEY", "SECRET", "PASSWORD", "PASSWD", "TOKEN", "CREDENTIAL")


def build_step(plan: BuildPlan, options: JobOptions) -> dict[str, Any]:
    """Return the container; it is given no credentials of any kind.

    Kaniko looks for a base named by digest in its cache folder first, where ``fetch`` put it. The
    layer cache is a folder of the Pod: a cache in a registry would need credentials here.
    """
    arguments = [
        f"--dockerfile={CONTEXT}/Dockerfile",
        f"--context=dir://{CONTEXT}",
        *(f"--build-arg={name}={value}" for name, value in build_arguments(plan, options).items()),
        "--no-push",
        f"--oci-layout-path={BUILT}",
        "--cache=true",
        f"--cache-dir={BASE}",
        f"--cache-repo=oci:{CACHE}",
        "--no-push-cache",
        *options.kaniko_arguments,
    ]
    return {"name": "build", "image": options.image(), "args": arguments}


def build_arguments(plan: BuildPlan, options: JobOptions) -> dict[str, str]:
    """Return the build arguments that Merlin's Dockerfiles know and that carry no secret."""
    request = plan.request
    base = {"BASE_IMAGE": str(plan.base)} if plan.base is not None else {}
    return {
        **base,
        "MLFLOW_ARTIFACT_STORAGE_TYPE": "" if options.store.type == "none" else options.store.type,
        "MODEL_ARTIFACTS_URL": plan.model_url,
        "MODEL_NAME": request.model_name,
        "MODEL_VERSION": request.version,
        "MODEL_TYPE": request.model_type,
        **options.build_args,
    }


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuse additional arguments that would push, carry a secret or undo what we set.

    Raises `JobOptionsInvalid` naming the argument, never its value.
    """
    previous = ""
    for argument in arguments:
        name, _, value = argument.partition("=")
        if not argument.startswith("-"):
            name, value = previous, argument
        previous = name
        if name in _PUSHES:
            raise JobOptionsInvalid(
                f"Kaniko's {name} would write to a registry from the step that runs the model's "
                "code, which has no credentials.",
                hint="Leave it out: the image is pushed by a step of its own.",
            )
        if name in _OURS:
            raise JobOptionsInvalid(
                f"Kaniko's {name} is set by Merlin.",
                hint="Remove it from the additional arguments.",
            )
        if name.startswith(_CREDENTIALS) or (name == "--build-arg" and is_secret_argument(value)):
            shown = f"{name} {value.partition('=')[0]}" if name == "--build-arg" else name
            raise JobOptionsInvalid(
                f"Kaniko's {shown} would carry a secret into the Job and to the model's code.",
                hint="Mount secrets for stores and registries with images.jobs instead.",
            )


def is_secret_argument(text: str) -> bool:
    """Say whether a build argument, ``NAME`` or ``NAME=VALUE``, looks like a secret."""
    name, _, value = text.partition("=")
    return any(word in name.upper() for word in _SECRET_WORDS) or (
        "://" in value and "@" in value.partition("://")[2].partition("/")[0]
    )
