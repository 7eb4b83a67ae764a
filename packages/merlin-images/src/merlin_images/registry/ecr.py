"""Amazon's registry: any other, but that a repository must be made before it is pushed to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.errors import RegistryError
from merlin_images.registry.port import BlobWrite, Descriptor
from merlin_images.registry.reference import Reference

Result = TypeVar("Result")


class EcrRegistry(DistributionRegistry):
    """A registry that makes a repository when a push finds none; ``create`` is given its name."""

    def __init__(self, host: str, *, create: Callable[[str], None], **options: Any) -> None:
        super().__init__(host, **options)
        self._create = create

    def write_blob(
        self,
        repository: Reference,
        descriptor: Descriptor,
        open_source: Callable[[], Iterable[bytes]],
        *,
        mount_from: Sequence[str] = (),
    ) -> BlobWrite:
        """As any registry; needs ecr:CreateRepository where there is no repository yet."""
        write = partial(
            super().write_blob, repository, descriptor, open_source, mount_from=mount_from
        )
        return self._again_once_created(repository, write)

    def stream_blob(
        self,
        repository: Reference,
        media_type: str,
        open_source: Callable[[], Iterable[bytes]],
    ) -> Descriptor:
        """As `write_blob`."""
        stream = partial(super().stream_blob, repository, media_type, open_source)
        return self._again_once_created(repository, stream)

    def _again_once_created(self, repository: Reference, write: Callable[[], Result]) -> Result:
        try:
            return write()
        except RegistryError as error:
            if "NAME_UNKNOWN" not in error.data.get("codes", ()):
                raise
        self._create(repository.repository)
        return write()
