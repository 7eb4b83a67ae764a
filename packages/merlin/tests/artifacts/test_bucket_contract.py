"""The contract of stores, against real services and the emulators their makers offer."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar, TypeVar

import pytest

from merlin.artifacts import ArtifactStore
from merlin.artifacts.azure import open_azure
from merlin.artifacts.contract import StoreContract, StreamsInConstantMemory, content
from merlin.artifacts.errors import ArtifactExists
from merlin.artifacts.gcs import open_gcs
from merlin.artifacts.s3 import open_s3
from tests.blob_servers import Service, at_gcs

TESTBENCH = os.environ.get("MERLIN_GCS_TESTBENCH", "")
Opened = TypeVar("Opened", bound=ArtifactStore)


class BucketContract(StoreContract, StreamsInConstantMemory):
    # obstore has no path for control characters.
    refused_keys: ClassVar[tuple[str, ...]] = ("new\nline",)


@pytest.mark.parts("swift")
class TestS3OnSwift(BucketContract):
    # Listings come in pages of 100 there, and every object takes a while.
    many: ClassVar[int] = 120

    @pytest.fixture
    def store(self, swift_service: Service) -> ArtifactStore:
        return in_new_bucket(swift_service, "s3", open_s3)

    def test_the_first_conditional_writer_wins(self, store: ArtifactStore) -> None:
        """Swift looks for an object before it takes a new one in: writers at once may all win."""
        store.write("locks/lock", [b"first"], only_if_absent=True)
        with pytest.raises(ArtifactExists):
            store.write("locks/lock", [b"second"], only_if_absent=True)
        assert content(store, "locks/lock") == b"first"


@pytest.mark.parts("moto")
class TestS3OnMoto(BucketContract):
    @pytest.fixture
    def store(self, moto_service: Service) -> ArtifactStore:
        return in_new_bucket(moto_service, "s3", open_s3)


@pytest.mark.parts("azurite")
class TestAzureOnAzurite(BucketContract):
    refused_keys: ClassVar[tuple[str, ...]] = ("new\nline", "back\\slash", "...")

    @pytest.fixture
    def store(self, azurite_service: Service) -> ArtifactStore:
        return in_new_bucket(azurite_service, "az", open_azure)


@pytest.mark.parts("gcs-emulator")
class TestGcsOnEmulator(BucketContract):
    many: ClassVar[int] = 120

    @pytest.fixture
    def store(self, gcs_service: Service) -> Iterator[ArtifactStore]:
        store = in_new_bucket(gcs_service, "gs", open_gcs)
        yield store
        store.close()

    # It ignores conditions and answers one request after the other: Google's own test bench below
    # has these.
    test_the_first_conditional_writer_wins = None  # type: ignore[assignment]
    test_a_reader_keeps_one_version = None  # type: ignore[assignment]


if TESTBENCH:

    class TestGcsOnTestbench(BucketContract):
        """Google publishes its test bench in no registry, so its address is given."""

        @pytest.fixture
        def store(self) -> Iterator[ArtifactStore]:
            store = in_new_bucket(at_gcs(TESTBENCH), "gs", open_gcs)
            yield store
            store.close()

else:

    @pytest.mark.skip(reason="MERLIN_GCS_TESTBENCH names no googleapis/storage-testbench")
    def test_gcs_on_testbench() -> None:
        """Stands for the whole suite, so that one line says what was not run."""


def in_new_bucket(
    service: Service, scheme: str, opened: Callable[[str, Mapping[str, str]], Opened]
) -> Opened:
    bucket = f"test-{uuid.uuid4()}"
    service.make_bucket(bucket)
    return opened(f"{scheme}://{bucket}/a root+%20", service.environ)
