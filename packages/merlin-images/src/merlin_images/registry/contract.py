"""The contract of `merlin_images.registry.port.ImageRegistry` as tests, for any backend.

Subclass `RegistryContract` in a test module and give it a ``registry`` fixture; ``home`` names a
repository that is empty in each test. What a backend cannot do is declared. Needs pytest.
"""

# ruff: noqa: S101 -- these are tests, published with what they test

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Iterator
from typing import ClassVar

import pytest

from merlin_images.registry.digests import digest_of
from merlin_images.registry.errors import (
    BlobsMissing,
    DigestMismatch,
    ImageNotFound,
    ManifestInvalid,
)
from merlin_images.registry.port import (
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    BlobWrite,
    Deletes,
    Descriptor,
    ImageRegistry,
    ListsReferrers,
    ListsTags,
    StreamsBlobs,
)
from merlin_images.registry.reference import Reference
from merlin_images.registry.samples import (
    describe,
    index_of,
    manifest_of,
    push_blob,
    push_image,
    random_bytes,
)

_MIB = 1 << 20


class SourceBroke(Exception):
    """What a failing source raises; registries let it through."""


class RegistryContract:
    """Every test works in repositories that nobody used before."""

    host: ClassVar[str] = "registry.test"
    # Docker's own registry before 3.0 deletes no single tag.
    deletes_tags: ClassVar[bool] = True
    # A layout folder has one place for the blobs of all its repositories.
    shares_blobs: ClassVar[bool] = False
    # Docker's own registry rewrites the link of a blob that is pushed again in place, and for a
    # moment says that it is missing; whoever pushes answers that by pushing again.
    links_atomically: ClassVar[bool] = True

    @pytest.fixture
    def home(self) -> Reference:
        return Reference(self.host, f"team/{uuid.uuid4()}")

    def test_what_is_not_there(self, registry: ImageRegistry, home: Reference) -> None:
        nothing = digest_of(b"nothing")
        assert registry.resolve(home.at_tag("v1")) is None
        assert registry.resolve(home.at_digest(nothing)) is None
        with pytest.raises(ImageNotFound):
            registry.read_manifest(home.at_tag("v1"))
        with pytest.raises(ImageNotFound):
            list(registry.read_blob(home, Descriptor(OCI_LAYER, nothing, 7)))

    def test_a_pushed_image_is_pulled(self, registry: ImageRegistry, home: Reference) -> None:
        pushed = push_image(registry, home.at_tag("v1"))
        assert registry.resolve(home.at_tag("v1")) == pushed
        assert registry.resolve(home.at_digest(pushed.digest)) == pushed
        for reference in (home.at_tag("v1"), home.at_digest(pushed.digest)):
            descriptor, body = registry.read_manifest(reference)
            assert descriptor == pushed
            assert digest_of(body) == pushed.digest
        layer = Descriptor.from_dict(json.loads(body)["layers"][0])
        assert b"".join(registry.read_blob(home, layer)) == random_bytes(0, 5000)
        assert registry.resolve(home.at_tag("v2")) is None

    def test_an_image_by_digest_alone(self, registry: ImageRegistry, home: Reference) -> None:
        layer, config = random_bytes(1, 100), b"{}"
        for content in (layer, config):
            push_blob(registry, home, content)
        body = manifest_of([describe(layer)], describe(config, OCI_CONFIG))
        reference = home.at_digest(digest_of(body))
        assert registry.write_manifest(reference, OCI_MANIFEST, body).digest == digest_of(body)
        assert registry.resolve(reference) == describe(body, OCI_MANIFEST)

    def test_a_digest_that_is_not_the_body_is_refused(
        self, registry: ImageRegistry, home: Reference
    ) -> None:
        body = manifest_of([], describe(b"{}", OCI_CONFIG))
        push_blob(registry, home, b"{}")
        with pytest.raises(DigestMismatch):
            registry.write_manifest(home.at_digest(digest_of(b"other")), OCI_MANIFEST, body)

    def test_docker_manifests_keep_their_type(
        self, registry: ImageRegistry, home: Reference
    ) -> None:
        push_blob(registry, home, b"{}")
        config = describe(b"{}", "application/vnd.docker.container.image.v1+json")
        body = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": DOCKER_MANIFEST,
                "config": config.to_dict(),
                "layers": [],
            }
        ).encode()
        registry.write_manifest(home.at_tag("docker"), DOCKER_MANIFEST, body)
        assert registry.resolve(home.at_tag("docker")) == describe(body, DOCKER_MANIFEST)

    def test_an_index_and_its_images(self, registry: ImageRegistry, home: Reference) -> None:
        image = push_image(registry, home.at_tag("part"))
        body = index_of([image])
        written = registry.write_manifest(home.at_tag("all"), OCI_INDEX, body)
        assert written == describe(body, OCI_INDEX)
        assert registry.read_manifest(home.at_tag("all")) == (written, body)

    def test_every_missing_blob_is_named(self, registry: ImageRegistry, home: Reference) -> None:
        here, lost = b"here", [b"lost 1", b"lost 2", b"lost 3"]
        push_blob(registry, home, here)
        layers = [describe(content) for content in (here, *lost[1:])]
        body = manifest_of(layers, describe(lost[0], OCI_CONFIG))
        with pytest.raises(BlobsMissing) as caught:
            registry.write_manifest(home.at_tag("v1"), OCI_MANIFEST, body)
        assert sorted(caught.value.digests) == sorted(digest_of(content) for content in lost)
        assert registry.resolve(home.at_tag("v1")) is None

    def test_a_missing_image_of_an_index_is_named(
        self, registry: ImageRegistry, home: Reference
    ) -> None:
        with pytest.raises(BlobsMissing) as caught:
            registry.write_manifest(
                home.at_tag("all"), OCI_INDEX, index_of([describe(b"lost", OCI_MANIFEST)])
            )
        assert caught.value.digests == [digest_of(b"lost")]

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"schemaVersion": 2}', b"\xff"])
    def test_what_is_no_manifest_is_refused(
        self, registry: ImageRegistry, home: Reference, body: bytes
    ) -> None:
        with pytest.raises(ManifestInvalid):
            registry.write_manifest(home.at_tag("v1"), OCI_MANIFEST, body)
        assert registry.resolve(home.at_tag("v1")) is None

    def test_a_tag_moves(self, registry: ImageRegistry, home: Reference) -> None:
        first = push_image(registry, home.at_tag("v1"), seed=1)
        second = push_image(registry, home.at_tag("v1"), seed=2)
        assert registry.resolve(home.at_tag("v1")) == second
        assert registry.resolve(home.at_digest(first.digest)) == first

    def test_writing_again_changes_nothing(self, registry: ImageRegistry, home: Reference) -> None:
        assert push_image(registry, home.at_tag("v1")) == push_image(registry, home.at_tag("v1"))

    def test_a_blob_that_is_there_is_not_asked_for(
        self, registry: ImageRegistry, home: Reference
    ) -> None:
        content = random_bytes(3, 1000)
        assert push_blob(registry, home, content) is BlobWrite.UPLOADED

        def never() -> Iterator[bytes]:
            pytest.fail("the source was opened")

        assert registry.write_blob(home, describe(content), never) is BlobWrite.PRESENT

    def test_a_blob_is_mounted(self, registry: ImageRegistry, home: Reference) -> None:
        content = random_bytes(uuid.uuid4().int, 1000)
        push_blob(registry, home, content)
        target = Reference(home.host, f"{home.repository}-2")

        def never() -> Iterator[bytes]:
            pytest.fail("the source was opened")

        how = registry.write_blob(
            target,
            describe(content),
            never,
            mount_from=[f"{home.repository}-none", home.repository],
        )
        assert how is (BlobWrite.PRESENT if self.shares_blobs else BlobWrite.MOUNTED)
        assert b"".join(registry.read_blob(target, describe(content))) == content

    def test_a_blob_that_cannot_be_mounted_is_uploaded(
        self, registry: ImageRegistry, home: Reference
    ) -> None:
        content = random_bytes(uuid.uuid4().int, 1000)
        how = registry.write_blob(
            home, describe(content), lambda: [content], mount_from=[f"{home.repository}-none"]
        )
        assert how is BlobWrite.UPLOADED
        assert b"".join(registry.read_blob(home, describe(content))) == content

    def test_repositories_do_not_see_each_other(
        self, registry: ImageRegistry, home: Reference
    ) -> None:
        content = random_bytes(uuid.uuid4().int, 1000)
        push_blob(registry, home, content)
        other = Reference(home.host, f"{home.repository}/below")
        if not self.shares_blobs:
            with pytest.raises(ImageNotFound):
                list(registry.read_blob(other, describe(content)))
        image = push_image(registry, home.at_tag("v1"))
        assert registry.resolve(other.at_tag("v1")) is None
        assert registry.resolve(other.at_digest(image.digest)) is None

    @pytest.mark.parametrize("size", [0, 1, 65_536, 3 * _MIB + 17])
    def test_blobs_of_all_sizes(self, registry: ImageRegistry, home: Reference, size: int) -> None:
        content = random_bytes(size, size)
        registry.write_blob(
            home,
            describe(content),
            lambda: (content[i : i + 99_991] for i in range(0, size, 99_991)),
        )
        assert b"".join(registry.read_blob(home, describe(content))) == content

    def test_a_blob_is_named_when_it_was_sent(
        self, registry: ImageRegistry, home: Reference
    ) -> None:
        if not isinstance(registry, StreamsBlobs):
            pytest.skip("this registry must be told first what it gets")
        content = os.urandom(3 << 20)
        pieces = [content[: 1 << 20], content[1 << 20 :]]
        blob = registry.stream_blob(home, OCI_LAYER, lambda: pieces)
        assert blob == describe(content, OCI_LAYER)
        assert b"".join(registry.read_blob(home, blob)) == content

        def broken() -> Iterator[bytes]:
            yield content[:1000]
            raise ValueError("the source broke")

        with pytest.raises(ValueError, match="the source broke"):
            registry.stream_blob(home, OCI_LAYER, broken)
        with pytest.raises(ImageNotFound):
            list(registry.read_blob(home, describe(content[:1000])))

    @pytest.mark.parametrize("offset", [1, 70_000, 2 * _MIB, 2 * _MIB + 4])
    def test_reading_from_an_offset(
        self, registry: ImageRegistry, home: Reference, offset: int
    ) -> None:
        content = random_bytes(4, 2 * _MIB + 5)
        push_blob(registry, home, content)
        read = b"".join(registry.read_blob(home, describe(content), offset=offset))
        assert read == content[offset:]

    @pytest.mark.parametrize(
        "wrong", [b"", b"short", b"the right length!", b"longer than it should be"]
    )
    def test_wrong_bytes_are_refused(
        self, registry: ImageRegistry, home: Reference, wrong: bytes
    ) -> None:
        described = describe(b"the real content.")
        with pytest.raises(DigestMismatch):
            registry.write_blob(home, described, lambda: [wrong])
        with pytest.raises(ImageNotFound):
            list(registry.read_blob(home, described))

    def test_a_descriptor_that_lies_about_the_size(
        self, registry: ImageRegistry, home: Reference
    ) -> None:
        content = random_bytes(5, 1000)
        push_blob(registry, home, content)
        for size in (999, 1001):
            with pytest.raises(DigestMismatch):
                list(registry.read_blob(home, Descriptor(OCI_LAYER, digest_of(content), size)))

    def test_a_failing_source_leaves_nothing(
        self, registry: ImageRegistry, home: Reference
    ) -> None:
        content = random_bytes(6, _MIB)

        def source() -> Iterator[bytes]:
            yield content[: _MIB // 2]
            raise SourceBroke

        with pytest.raises(SourceBroke):
            registry.write_blob(home, describe(content), source)
        with pytest.raises(ImageNotFound):
            list(registry.read_blob(home, describe(content)))
        assert push_blob(registry, home, content) is BlobWrite.UPLOADED

    def test_a_reader_may_stop_early(self, registry: ImageRegistry, home: Reference) -> None:
        content = random_bytes(7, 2 * _MIB)
        push_blob(registry, home, content)
        for _ in range(20):
            reader = registry.read_blob(home, describe(content))
            assert next(reader)
            del reader
        assert b"".join(registry.read_blob(home, describe(content))) == content

    def test_many_threads_push_the_same(self, registry: ImageRegistry, home: Reference) -> None:
        outcomes: list[str] = []

        def push() -> None:
            while True:
                try:
                    outcomes.append(push_image(registry, home.at_tag("v1"), seed=8).digest)
                except BlobsMissing:
                    if self.links_atomically:
                        raise
                else:
                    return

        threads = [threading.Thread(target=push) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(outcomes) == 6
        assert len(set(outcomes)) == 1

    def test_tags_are_all_listed(self, registry: ImageRegistry, home: Reference) -> None:
        if not isinstance(registry, ListsTags):
            pytest.skip("this registry does not list tags")
        assert list(registry.tags(home)) == []
        image, body = _pushed(registry, home)
        for number in range(25):
            registry.write_manifest(home.at_tag(f"v{number:02}"), image.media_type, body)
        expected = ["first", *(f"v{number:02}" for number in range(25))]
        assert sorted(registry.tags(home)) == expected

    def test_deleting_a_digest_takes_its_tags(
        self, registry: ImageRegistry, home: Reference
    ) -> None:
        if not isinstance(registry, Deletes):
            pytest.skip("this registry does not delete")
        image = push_image(registry, home.at_tag("v1"), seed=1)
        other = push_image(registry, home.at_tag("v2"), seed=2)
        registry.delete_manifest(home.at_digest(image.digest))
        registry.delete_manifest(home.at_digest(image.digest))
        assert registry.resolve(home.at_tag("v1")) is None
        assert registry.resolve(home.at_digest(image.digest)) is None
        assert registry.resolve(home.at_tag("v2")) == other

    def test_deleting_a_tag_leaves_the_others(
        self, registry: ImageRegistry, home: Reference
    ) -> None:
        if not (isinstance(registry, Deletes) and self.deletes_tags):
            pytest.skip("this registry does not delete tags")
        image = push_image(registry, home.at_tag("v1"))
        push_image(registry, home.at_tag("v2"))
        registry.delete_manifest(home.at_tag("v1"))
        registry.delete_manifest(home.at_tag("v1"))
        assert registry.resolve(home.at_tag("v1")) is None
        assert registry.resolve(home.at_tag("v2")) == image
        assert registry.resolve(home.at_digest(image.digest)) == image

    def test_referrers(self, registry: ImageRegistry, home: Reference) -> None:
        if not isinstance(registry, ListsReferrers):
            pytest.skip("this registry does not list referrers")
        image = push_image(registry, home.at_tag("v1"))
        subject = home.at_digest(image.digest)
        assert registry.referrers(subject) == []
        push_blob(registry, home, b"{}")
        empty = describe(b"{}", "application/vnd.oci.empty.v1+json")
        written = {}
        for kind in ("application/x.signature", "application/x.sbom"):
            body = manifest_of(
                [empty], empty, subject=image, artifact_type=kind, annotations={"kind": kind}
            )
            reference = home.at_digest(digest_of(body))
            registry.write_manifest(reference, OCI_MANIFEST, body)
            registry.write_manifest(reference, OCI_MANIFEST, body)
            written[kind] = Descriptor(
                OCI_MANIFEST, digest_of(body), len(body), {"kind": kind}, kind
            )
        found = registry.referrers(subject)
        assert sorted(found, key=str) == sorted(written.values(), key=str)
        for kind, descriptor in written.items():
            assert registry.referrers(subject, artifact_type=kind) == [descriptor]
        assert registry.referrers(subject, artifact_type="application/x.other") == []

    def test_an_image_may_refer_to_what_is_not_there(
        self, registry: ImageRegistry, home: Reference
    ) -> None:
        if not isinstance(registry, ListsReferrers):
            pytest.skip("this registry does not list referrers")
        absent = describe(b"absent", OCI_MANIFEST)
        image = push_image(registry, home.at_tag("signature"), subject=absent)
        found = registry.referrers(home.at_digest(absent.digest))
        assert [each.digest for each in found] == [image.digest]
        assert [each.artifact_type for each in found] == [OCI_CONFIG]


def _pushed(registry: ImageRegistry, home: Reference) -> tuple[Descriptor, bytes]:
    push_image(registry, home.at_tag("first"))
    return registry.read_manifest(home.at_tag("first"))
