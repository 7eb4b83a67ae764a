"""Config and manifest of a model's image, from its base, its layers and the request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from merlin_images.builders.port import BuildRequest
from merlin_images.environments.model import Lock
from merlin_images.image import annotation_keys
from merlin_images.image.base import MOST_LAYERS, Base
from merlin_images.image.config import AddedLayer, Run, environment, extend_config, timestamp
from merlin_images.image.debian_tree import NONROOT
from merlin_images.image.errors import BaseUnsuitable
from merlin_images.image.manifest import Manifest, digest_of
from merlin_images.layers import wheel
from merlin_images.layers.layer_store import Layer
from merlin_images.layers.model import MODEL_PREFIX
from merlin_images.layers.runtime import VENV_PREFIX, Runtime
from merlin_images.registry.port import OCI_CONFIG, Descriptor

PORT = 8080

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Assembled:
    """What remains to be pushed once the layers are there."""

    config: bytes
    config_descriptor: Descriptor
    manifest: Manifest


def assemble(
    request: BuildRequest, base: Base, layers: Sequence[Layer], *, lock: Lock, runtime: Runtime
) -> Assembled:
    """Put ``layers`` on ``base``. The same arguments give the same bytes.

    Raises `BaseUnsuitable` when no container runtime would take so many layers.
    """
    check_layer_count(base, len(layers))
    config = extend_config(
        base.config,
        [AddedLayer(layer.diff_id, layer.title) for layer in layers],
        run_of(
            base,
            model_name=request.model_name,
            version=request.version,
            labels={
                **request.labels,
                annotation_keys.MODEL_NAME: request.model_name,
                annotation_keys.MODEL_TYPE: request.model_type,
                annotation_keys.VERSION: request.version,
                annotation_keys.LOCK_KEY: lock.key,
                annotation_keys.RUNTIME_VERSION: runtime.version,
            },
        ),
        created=request.created,
    )
    descriptor = Descriptor(OCI_CONFIG, digest_of(config), len(config))
    manifest = Manifest(
        config=descriptor,
        layers=(
            *(described(layer.descriptor, kind="base", title=layer.title) for layer in base.layers),
            *(described(layer.descriptor, kind=layer.kind, title=layer.title) for layer in layers),
        ),
        annotations={
            annotation_keys.CREATED: timestamp(request.created),
            annotation_keys.TITLE: request.model_name,
            annotation_keys.VERSION: request.version,
            annotation_keys.BASE_NAME: base.name,
            annotation_keys.BASE_DIGEST: base.digest,
            annotation_keys.DEPENDENCY_HASH: lock.environment,
            annotation_keys.LOCK_KEY: lock.key,
            annotation_keys.LOCK_PLATFORM: lock.target.platform,
            annotation_keys.MODEL_NAME: request.model_name,
            annotation_keys.MODEL_TYPE: request.model_type,
            annotation_keys.RUNTIME_VERSION: runtime.version,
            annotation_keys.VENV_PYTHON: lock.target.python,
        },
    )
    return Assembled(config, descriptor, manifest)


def check_plan(base: Base, of_model: int, lock: Callable[[], Lock]) -> None:
    """Raise `BaseUnsuitable` if the image would have too many layers, before any is there.

    ``of_model`` is the number of the model's layers. ``lock`` may take its time, and is asked for
    only if some lock could come to too many. A layer of Debian packages is not counted: it may turn
    out to be needless, and `assemble` counts again.
    """
    of_runtime = of_system = 1
    own = of_model + of_runtime
    if len(base.layers) + own + of_system + wheel.MOST_LAYERS + wheel.SMALL_LAYERS > MOST_LAYERS:
        check_layer_count(base, own + len(wheel.planned_layers(lock())))


def check_layer_count(base: Base, added: int) -> None:
    """Raise `BaseUnsuitable` when no container runtime would take so many layers."""
    if len(base.layers) + added > MOST_LAYERS:
        raise BaseUnsuitable(
            f"On {base.name} the image would have {len(base.layers) + added} layers; "
            f"container runtimes take {MOST_LAYERS}.",
            hint="Choose a base image of fewer layers.",
        )


def run_of(base: Base, *, model_name: str, version: str, labels: Mapping[str, str]) -> Run:
    """Return how a container of a model's image on ``base`` starts."""
    variables = environment(base.config)
    return Run(
        entrypoint=[
            *(f"/{VENV_PREFIX}/bin/python", "-m", "merlin_runtime", "serve"),
            *("--model-dir", f"/{MODEL_PREFIX}", "--port", str(PORT)),
        ],
        environment={
            "PATH": f"/{VENV_PREFIX}/bin:{variables.get('PATH', _DEFAULT_PATH)}",
            "VIRTUAL_ENV": f"/{VENV_PREFIX}",
            "LANG": variables.get("LANG", "C.UTF-8"),
            # The one folder that is writable for any user in any base.
            "HOME": "/tmp",  # noqa: S108
            "CARAML_MODEL_NAME": model_name,
            "CARAML_MODEL_VERSION": version,
            "CARAML_MODEL_FULL_NAME": f"{model_name}-{version}",
        },
        user=f"{NONROOT}:{NONROOT}",
        working_directory=f"/{MODEL_PREFIX}",
        port=PORT,
        labels=labels,
    )


def described(descriptor: Descriptor, *, kind: str, title: str) -> Descriptor:
    """Say on a layer's descriptor what it is; what is said there already stays."""
    added = {annotation_keys.LAYER_KIND: kind, annotation_keys.LAYER_TITLE: title}
    return replace(descriptor, annotations={**descriptor.annotations, **added})
