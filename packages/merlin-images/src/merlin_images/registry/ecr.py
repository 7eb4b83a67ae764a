"""Amazon's registry: any other, but that a repository must be made before it is pushed to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.errors import RegistryError
from merlin_images.registry.port import BlobWrite, Descriptor
from merlin_images.registry.reference import Reference


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
        try:
            return super().write_blob(repository, descriptor, open_source, mount_from=mount_from)
        except RegistryError as error:
            if "NAME_UNKNOWN" not in error.data.get("codes", ()):
                raise
        self._create(repository.repository)
        return super().write_blob(repository, descriptor, open_source, mount_from=mount_from)
