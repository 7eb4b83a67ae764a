"""How an image came to be: an in-toto statement with SLSA provenance (slsa.dev/provenance/v1)."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from merlin_images.attestations.materials import Materials
from merlin_images.image import annotation_keys
from merlin_images.image.manifest import canonical_json
from merlin_images.registry.port import Descriptor

STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"

_BUILD_TYPE = "urn:merlin-serving:build:native:v1"
_BUILDER = "urn:merlin-serving:builder:merlin-images"
_OWN_KINDS = {"model", "runtime"}


def provenance(materials: Materials, *, source: str = "") -> bytes:
    """Return the statement as canonical JSON; ``source`` is where the model was read from.

    Resolved dependencies are the base by its digest, each wheel by its hash, and the layers of the
    model and of our runtime. There are no times of the build: the same image has one provenance.
    """
    told = materials.image.manifest.annotations
    external: dict[str, Any] = {
        "model": {
            "name": told.get(annotation_keys.MODEL_NAME, ""),
            "type": told.get(annotation_keys.MODEL_TYPE, ""),
            "version": told.get(annotation_keys.VERSION, ""),
        },
        "base": told.get(annotation_keys.BASE_NAME, ""),
        "python": told.get(annotation_keys.VENV_PYTHON, ""),
    }
    if source:
        external["model"]["source"] = source
    return statement(
        materials.image.reference.host + "/" + materials.image.reference.repository,
        materials.image.descriptor,
        PROVENANCE,
        {
            "buildDefinition": {
                "buildType": _BUILD_TYPE,
                "externalParameters": external,
                "internalParameters": {
                    "platform": told.get(annotation_keys.LOCK_PLATFORM, ""),
                    "lock": told.get(annotation_keys.LOCK_KEY, ""),
                    "runtime": told.get(annotation_keys.RUNTIME_VERSION, ""),
                },
                "resolvedDependencies": _dependencies(materials),
            },
            "runDetails": {
                "builder": {"id": _BUILDER, "version": {"merlin-images": version("merlin-images")}}
            },
        },
    )


def statement(name: str, image: Descriptor, predicate_type: str, predicate: object) -> bytes:
    """Return an in-toto statement about an image (in-toto attestation framework, v1)."""
    algorithm, _, digest = image.digest.partition(":")
    return canonical_json(
        {
            "_type": STATEMENT,
            "subject": [{"name": name, "digest": {algorithm: digest}}],
            "predicateType": predicate_type,
            "predicate": predicate,
        }
    )


def _dependencies(materials: Materials) -> list[dict[str, Any]]:
    manifest = materials.image.manifest
    told = manifest.annotations
    dependencies: list[dict[str, Any]] = []
    if base := told.get(annotation_keys.BASE_DIGEST, ""):
        dependencies.append(
            {
                "name": "base",
                "uri": told.get(annotation_keys.BASE_NAME, ""),
                "digest": _digest(base),
            }
        )
    dependencies += [
        {"name": wheel.filename, "uri": wheel.url, "digest": {"sha256": wheel.sha256}}
        for wheel in materials.wheels
    ]
    dependencies += [
        {
            "name": layer.annotations.get(annotation_keys.LAYER_TITLE, ""),
            "digest": _digest(layer.digest),
        }
        for layer in manifest.layers
        if layer.annotations.get(annotation_keys.LAYER_KIND) in _OWN_KINDS
    ]
    return dependencies


def _digest(text: str) -> dict[str, str]:
    algorithm, _, digest = text.partition(":")
    return {algorithm: digest}
