"""Names and labels of build Jobs: readable, never too long, and one for each thing to build."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from merlin_images.builders.jobs.options import JobOptions
from merlin_images.builders.port import BuildRequest

KEY_ANNOTATION = "merlin.caraml.dev/build-key"
OWNER_LABEL = "merlin.caraml.dev/managed-by"
OWNER = "merlin-image-builder"
COMPONENT = "image-builder"

# A Pod's name is the Job's and six characters more; its label job-name ends at 63.
_LONGEST = 63
_HASH = 12
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_LABEL_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LABEL_PREFIX = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")


def build_key(request: BuildRequest, tag: str) -> str:
    """Return what two requests share exactly if one Job can serve both: 64 hexadecimal digits."""
    target = request.target
    parts = (target.host, target.repository, tag, target.tag)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def job_name(request: BuildRequest, key: str) -> str:
    """Return the Job's name: project, model, version, and the beginning of the key."""
    project = request.run.project or request.target.repository.partition("/")[0]
    readable = "-".join(filter(None, (project, request.model_name, request.version)))
    text = re.sub(r"[^a-z0-9]+", "-", readable.lower()).strip("-")
    if not text[:1].isalpha():
        # Pods' host names are taken from it, and older clusters want a letter first.
        text = f"build-{text}".rstrip("-")
    return f"{text[: _LONGEST - _HASH - 1].rstrip('-')}-{key[:_HASH]}"


def job_labels(request: BuildRequest, options: JobOptions) -> dict[str, str]:
    """Return the labels of a Job and its Pods (merlin.md 3.5).

    What users set freely never changes what Merlin sets, and what Kubernetes would refuse is left
    out.
    """
    users = {
        name: value
        for name, value in request.run.labels.items()
        if _is_label_name(name) and _LABEL_VALUE.fullmatch(value)
    }
    prefix = options.label_prefix
    ours = {
        "app": label_value(request.model_name),
        "component": COMPONENT,
        "environment": label_value(options.platform_environment),
        "orchestrator": "merlin",
        "stream": label_value(request.run.stream),
        "team": label_value(request.run.team),
    }
    return {**users, **{f"{prefix}{k}": v for k, v in ours.items() if v}, OWNER_LABEL: OWNER}


def owned(options: JobOptions) -> Mapping[str, str]:
    """Return the labels that only our own Jobs have."""
    return {OWNER_LABEL: OWNER, f"{options.label_prefix}component": COMPONENT}


def label_value(text: str) -> str:
    """Return a text as the value of a label, whatever it holds."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)[:63].strip("._-")


def _is_label_name(text: str) -> bool:
    prefix, slash, name = text.rpartition("/")
    fits = bool(_LABEL_PREFIX.fullmatch(prefix)) if slash else True
    # What Kubernetes reads of Pods is the Job controller's to say.
    kubernetes = prefix.endswith("kubernetes.io") or name in ("job-name", "controller-uid")
    return fits and not kubernetes and bool(_LABEL_NAME.fullmatch(name))
