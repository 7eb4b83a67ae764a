"""What registries of the large providers take at most, from their own pages on quotas."""

from __future__ import annotations

import re

from merlin.output.human import human_size
from merlin_images.registry.errors import LayerTooLarge

_ECR_HOST = re.compile(
    r"\d+\.dkr[.-]ecr(?:-fips)?\.[a-z0-9-]+\.(?:amazonaws\.com(?:\.cn|\.eu)?|on\.aws)"
    r"|public\.ecr\.aws"
)
_GHCR = ("GitHub's registry", 10 * 10**9)
_ECR = ("Amazon ECR", 52_000 * 2**20)
_ACR = ("Azure Container Registry", 200 * 2**30)


def largest_layer(host: str) -> tuple[str, int] | None:
    """Return the provider and the most bytes a layer may have there; ``None`` if unknown."""
    name = host.partition(":")[0].lower()
    if name == "ghcr.io":
        return _GHCR
    if _ECR_HOST.fullmatch(name):
        return _ECR
    if name.endswith((".azurecr.io", ".azurecr.cn", ".azurecr.us")):
        return _ACR
    return None


def check_layer_fits(host: str, what: str, size: int) -> None:
    """Raise `LayerTooLarge` if a layer that holds ``what``, of so many bytes, cannot go there."""
    limit = largest_layer(host)
    if limit is None or size <= limit[1]:
        return
    raise LayerTooLarge(
        f"{what} has {human_size(size)} ({size:,} bytes), and {limit[0]} ({host}) takes layers of "
        f"at most {human_size(limit[1])} ({limit[1]:,} bytes).",
        file=what,
        size=size,
        limit=limit[1],
    )
