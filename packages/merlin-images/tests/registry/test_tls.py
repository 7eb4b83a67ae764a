"""A registry behind TLS with a certificate authority of the house's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.errors import RegistryUnavailable
from merlin_images.registry.http_transport import Retry
from merlin_images.registry.reference import Reference
from merlin_images.registry.samples import push_image


def test_a_private_authority_is_trusted_if_configured(
    served_with_tls: str, certificate: Path
) -> None:
    registry = DistributionRegistry(served_with_tls, ca_file=certificate)
    reference = Reference(served_with_tls, "team/image", tag="v1")
    assert registry.resolve(reference) is None
    image = push_image(registry, reference)
    assert registry.resolve(reference) == image
    registry.close()


def test_and_only_then(served_with_tls: str) -> None:
    # On this machine a certificate file is what asks for TLS; the usual authorities do not help.
    system = Path("/etc/ssl/certs/ca-certificates.crt")
    if not system.exists():
        pytest.skip("needs the system's certificate authorities")
    registry = DistributionRegistry(served_with_tls, ca_file=system, retry=Retry(attempts=1))
    with pytest.raises(RegistryUnavailable, match="certificate"):
        registry.resolve(Reference(served_with_tls, "team/image", tag="v1"))
    registry.close()
