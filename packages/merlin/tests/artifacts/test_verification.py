"""A download that was damaged on its way is never taken for the object."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from merlin.artifacts.errors import ArtifactDamaged
from merlin.artifacts.folders import download_folder
from merlin.artifacts.gcs import open_gcs
from tests.blob_servers import Service
from tests.faulty_proxy import Asked, Fault, FaultyProxy


@pytest.mark.parts("gcs")
def test_google_tells_the_checksum(gcs_service: Service, tmp_path: Path) -> None:
    bucket = f"damaged-{uuid.uuid4()}"
    gcs_service.make_bucket(bucket)
    content = os.urandom(70_000)
    direct = open_gcs(f"gs://{bucket}/root", gcs_service.environ)
    direct.write("model/weights", [content])
    with FaultyProxy(gcs_service.url) as proxy:
        store = open_gcs(f"gs://{bucket}/root", {"STORAGE_EMULATOR_HOST": proxy.url})
        damages = iter(range(1))

        def damage(asked: Asked) -> Fault | None:
            is_content = "alt=media" in asked.target
            once = is_content and next(damages, None) is not None
            return Fault("corrupt answer", at=6_000) if once else None

        proxy.plan = damage
        with pytest.raises(ArtifactDamaged, match="'model/weights' came damaged from gs://"):
            download_folder(store, "model", tmp_path)
        assert not (tmp_path / "weights").exists()
        assert download_folder(store, "model", tmp_path) == 1
        assert (tmp_path / "weights").read_bytes() == content
        assert [file.name for file in tmp_path.iterdir()] == ["weights"]
        store.close()
    direct.close()
