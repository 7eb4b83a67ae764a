"""Whether a version's image exists is the registry's answer of this moment."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient

from merlin_images.image.manifest import Manifest, digest_of
from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.http_transport import Retry
from merlin_images.registry.memory import MemoryRegistry
from merlin_images.registry.port import OCI_CONFIG, OCI_MANIFEST, Descriptor
from merlin_images.registry.reference import Reference
from merlin_server.database import now
from merlin_server.images.store import ImageRow

DIGEST = "sha256:" + "a" * 64


def put_image(registry: MemoryRegistry, name: Reference) -> str:
    config = Descriptor(OCI_CONFIG, digest_of(b"{}"), 2)
    registry.write_blob(name, config, lambda: [b"{}"])
    return registry.write_manifest(name, OCI_MANIFEST, Manifest(config, ()).to_bytes()).digest


def remember_a_build(server: Any) -> None:
    with server.database.write() as session:
        session.add(
            ImageRow(model_id=1, version_id=1, state="succeeded", digest=DIGEST, finished_at=now())
        )


def test_present_and_absent(client: TestClient, server: Any, made: Any) -> None:
    remember_a_build(server)
    image = client.get(f"{made.version}/image").json()
    # It was built once, and somebody deleted it.
    assert image["existence"] == {"state": "absent", "digest": "", "reason": ""}
    assert (image["exists"], image["digest"]) == (False, DIGEST)
    digest = put_image(server.registry, Reference("127.0.0.1:8080", "fruit/iris", tag="1"))
    image = client.get(f"{made.version}/image").json()
    assert image["existence"] == {"state": "present", "digest": digest, "reason": ""}
    assert image["exists"] is True
    assert client.get(f"{made.model}/versions/2/image").status_code == 404


def test_a_registry_out_of_reach_says_nothing(client: TestClient, server: Any, made: Any) -> None:
    server.registry = DistributionRegistry("127.0.0.1:9", retry=Retry(attempts=1))
    image = client.get(f"{made.version}/image").json()
    assert image["existence"]["state"] == "unknown"
    assert "127.0.0.1:9" in image["existence"]["reason"]
    assert image["exists"] is False
    # What was known before is neither forgotten nor contradicted.
    remember_a_build(server)
    image = client.get(f"{made.version}/image").json()
    assert (image["existence"]["state"], image["exists"]) == ("unknown", True)
