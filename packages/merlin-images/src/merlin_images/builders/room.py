"""Whether an image has room for what is to be in it, known before anything of it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future

from merlin_images.builders.assembly import check_plan
from merlin_images.builders.push import Pusher
from merlin_images.environments.model import Lock
from merlin_images.image.base import Base
from merlin_images.layers.model import ModelFolder, planned_layers
from merlin_images.registry.limits import check_layer_fits
from merlin_images.registry.port import Descriptor


def check_room(
    choosing: Future[Base], locking: Future[Lock], model: ModelFolder, host: str
) -> None:
    """Refuse what the registry or container runtimes do not take. Waits for the base, and for the
    lock where it matters. Raises `BaseUnsuitable` or `LayerTooLarge`."""
    base = choosing.result()
    for layer in base.layers:
        check_layer_fits(host, layer.title, layer.descriptor.size)
    check_plan(base, len(planned_layers(model)), locking.result)


class ChecksRoom:
    """Sends a model's weights as `Pusher.stream` does, once there is known to be room for them."""

    def __init__(self, checking: Future[None], pusher: Pusher) -> None:
        self._checking = checking
        self._pusher = pusher

    def __call__(
        self, media_type: str, source: Callable[[], Iterable[bytes]], /, *, title: str, size: int
    ) -> Descriptor:
        self._checking.result()
        return self._pusher.stream(media_type, source, title=title, size=size)
