"""How a build is run: what a request or a deploy asked for, kept with the image's row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from merlin_server.endpoints.quantities import parse_quantity
from merlin_server.images.errors import BuildOptionsInvalid


@dataclass(frozen=True)
class BuildOptions:
    """``environment`` is where the image is wanted, empty for the default one; ``cpu`` and
    ``memory`` are quantities, empty for the platform's; ``retries`` counts tries after the first,
    `None` for the platform's. A builder inside the server has no use for the amounts."""

    environment: str = ""
    cpu: str = ""
    memory: str = ""
    retries: int | None = None

    @classmethod
    def asked(
        cls,
        resources: Mapping[str, Any] | None,
        *,
        environment: str = "",
        retries: int | None = None,
    ) -> BuildOptions:
        """Read a ``resource_request``; zero means not asked for, as with Merlin (merlin.md 3.5).

        Raises `BuildOptionsInvalid`.
        """
        cpu, memory = (_amount(resources or {}, name) for name in ("cpu_request", "memory_request"))
        return cls(environment, cpu, memory, retries)

    @classmethod
    def stored(cls, row: Mapping[str, Any]) -> BuildOptions:
        return cls(**row)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _amount(resources: Mapping[str, Any], field: str) -> str:
    text = str(resources.get(field) or "")
    if not text:
        return ""
    try:
        amount = parse_quantity(text)
    except ValueError as error:
        raise BuildOptionsInvalid(f"{field} of a build: {error}.", field=field) from None
    if amount < 0:
        raise BuildOptionsInvalid(f"{field} of a build must not be negative.", field=field)
    return text if amount else ""
