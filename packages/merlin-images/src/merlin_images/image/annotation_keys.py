"""The names of what we write about images into images: annotations and labels.

Annotations stand in manifests and on layer descriptors, labels in the config. Both change the
digest, so nothing that changes between two builds of the same inputs may be put there.
"""

from __future__ import annotations

OCI = "org.opencontainers.image."
OURS = "io.merlin-serving."

CREATED = OCI + "created"
TITLE = OCI + "title"
VERSION = OCI + "version"
BASE_NAME = OCI + "base.name"
BASE_DIGEST = OCI + "base.digest"

LAYER_KIND = OURS + "layer.kind"
LAYER_TITLE = OURS + "layer.title"
BASE_SUITE = OURS + "base.suite"
BASE_PACKAGES = OURS + "base.packages"

PYTHON_VERSION = OURS + "python"
PYTHON_PATH = OURS + "python.path"
GLIBC_VERSION = OURS + "glibc"

DEPENDENCY_HASH = OURS + "dependencies"
LOCK_KEY = OURS + "lock"
LOCK_PLATFORM = OURS + "lock.platform"
VENV_PYTHON = OURS + "venv.python"
MODEL_NAME = OURS + "model.name"
MODEL_TYPE = OURS + "model.type"
RUNTIME_VERSION = OURS + "runtime"

PREDICATE = "in-toto.io/predicate-type"
BUNDLE_CONTENT = "dev.sigstore.bundle.content"
BUNDLE_PREDICATE = "dev.sigstore.bundle.predicateType"
SIGNER = OURS + "signer"
