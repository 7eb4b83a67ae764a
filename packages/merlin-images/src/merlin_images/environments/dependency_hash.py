"""The dependency hash: one name for all spellings of an environment file.

It is the sha256 of a text that people can read, kept beside the locks of the environment. So
``sha256sum environment.json`` gives the name of the folder it lies in, with any release of ours:
what is hashed may only change together with `FORMAT`.
"""

from __future__ import annotations

import hashlib
import json

from merlin_images.environments.model import EnvironmentSpec

FORMAT = 1


def environment_text(spec: EnvironmentSpec) -> str:
    """Return the normalised environment as JSON that ends with a newline.

    Requirements and constraints are sets, so they are sorted. The order of the index options counts
    for the resolver and stays. What the target, the runtime or the day add is no part of it.
    """
    document = {
        "format": FORMAT,
        "python": spec.python,
        "requirements": sorted(set(spec.requirements)),
        "constraints": sorted(set(spec.constraints)),
        "index_options": list(spec.index_options),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def dependency_hash(spec: EnvironmentSpec) -> str:
    """Return the sha256 of `environment_text`, in hex."""
    return hashlib.sha256(environment_text(spec).encode()).hexdigest()
