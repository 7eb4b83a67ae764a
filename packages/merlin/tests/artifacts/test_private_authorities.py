"""Every store behind a certificate whose authority only we know."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from merlin.artifacts import azure, gcs, s3
from merlin.artifacts import bucket as bucket_module
from merlin.artifacts.azure import open_azure
from merlin.artifacts.errors import StoreUnavailable
from merlin.artifacts.gcs import open_gcs
from merlin.artifacts.options import AzureOptions, GcsOptions, S3Options
from merlin.artifacts.s3 import open_s3
from merlin.artifacts.store import ArtifactStore
from tests.blob_servers import Service
from tests.faulty_proxy import FaultyProxy


@dataclass(frozen=True)
class Kind:
    """How a store is opened, and how it is told of an authority: an option and a variable."""

    scheme: str
    open: Callable[..., ArtifactStore]
    options: Any
    variable: str


KINDS = {
    "moto": Kind("s3", open_s3, S3Options, "AWS_CA_BUNDLE"),
    "azurite": Kind("az", open_azure, AzureOptions, "AZURE_CA_BUNDLE"),
    "gcs": Kind("gs", open_gcs, GcsOptions, "GOOGLE_CA_BUNDLE"),
}


@dataclass(frozen=True)
class Authority:
    """Its certificate, and one that it gave to 127.0.0.1, with its key."""

    certificate: Path
    given: Path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("tls")
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    new += ["-nodes", "-days", "2"]
    own = "-subj /CN=authority -keyout ca.key -out ca.pem"
    given = "-CA ca.pem -CAkey ca.key -subj /CN=store -keyout store.key -out store.crt"
    given += " -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE"
    for options in (own, given):
        command = [*new, *options.split()]
        subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=folder)
    both = (folder / "store.key").read_text() + (folder / "store.crt").read_text()
    (folder / "store.pem").write_text(both)
    return Authority(folder / "ca.pem", folder / "store.pem")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.parts(name)) for name in KINDS]
)
def test_an_authority_of_our_own(
    name: str, request: pytest.FixtureRequest, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    service: Service = request.getfixturevalue(f"{name}_service")
    kind, bucket = KINDS[name], f"authority-{uuid.uuid4()}"
    service.make_bucket(bucket)
    url = f"{kind.scheme}://{bucket}/root"
    kind.open(url, service.environ).write("key", [b"content"])
    with FaultyProxy(service.url, certificate=authority.given) as proxy:
        environ = {
            key: value.replace(service.url, proxy.url) for key, value in service.environ.items()
        }
        by_variable = {**environ, kind.variable: str(authority.certificate)}
        for store in (
            kind.open(url, environ, options=kind.options(ca_file=authority.certificate)),
            kind.open(url, by_variable),
        ):
            assert b"".join(store.read("key")) == b"content"
        monkeypatch.setattr(gcs, "_FIRST_PAUSE", 0.001)
        for module in (s3, azure):
            monkeypatch.setattr(module, "RETRIES", {**bucket_module.RETRIES, "max_retries": 0})
        with pytest.raises(StoreUnavailable):
            kind.open(url, environ).head("key")
