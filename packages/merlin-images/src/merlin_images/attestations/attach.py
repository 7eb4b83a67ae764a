"""Attaching statements to an image, and finding them again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from merlin_images.attestations.bills import bill_of_materials
from merlin_images.attestations.materials import Materials
from merlin_images.attestations.provenance import PROVENANCE, provenance, statement
from merlin_images.image import annotation_keys
from merlin_images.image.errors import InvalidImage, ReferrersUnsupported
from merlin_images.image.manifest import Manifest, digest_of, parse_manifest, parse_object
from merlin_images.registry.port import (
    OCI_EMPTY,
    OCI_MANIFEST,
    Descriptor,
    ImageRegistry,
    ListsReferrers,
)
from merlin_images.registry.reference import Reference

Kind = Literal["spdx", "cyclonedx", "provenance", "signature"]
KINDS: tuple[Kind, ...] = ("spdx", "cyclonedx", "provenance", "signature")

SPDX = "application/spdx+json"
CYCLONEDX = "application/vnd.cyclonedx+json"
IN_TOTO = "application/vnd.in-toto+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"

_PREDICATES: Mapping[Kind, str] = {
    "spdx": "https://spdx.dev/Document",
    "cyclonedx": "https://cyclonedx.org/bom",
    "provenance": PROVENANCE,
    "signature": "https://sigstore.dev/cosign/sign/v1",
}
_LARGEST = 64 << 20
_EMPTY = b"{}"


class Signs(Protocol):
    """What signs; see `merlin_images.attestations.signing.Signer`."""

    @property
    def hint(self) -> str: ...

    def sign(self, payload: bytes) -> bytes: ...


@dataclass(frozen=True)
class Attachment:
    """One document beside an image. ``kind`` is what people call it; ``annotations`` stand in its
    manifest and in lists of referrers, so that a reader need not fetch what it does not want."""

    kind: str
    artifact_type: str
    body: bytes
    annotations: Mapping[str, str] = field(default_factory=dict)


def attachments(
    materials: Materials, kinds: Sequence[Kind], *, signer: Signs | None = None, source: str = ""
) -> Iterator[Attachment]:
    """Yield the documents about an image; with ``signer`` each as a signed bundle.

    ``signature`` needs a signer, and says only that the image is what was meant to be signed.
    """
    for kind in kinds:
        if signer is not None:
            signed = {
                annotation_keys.BUNDLE_CONTENT: "dsse-envelope",
                annotation_keys.BUNDLE_PREDICATE: _PREDICATES[kind],
                annotation_keys.SIGNER: signer.hint,
            }
            body = signer.sign(_statement(materials, kind, source))
            yield Attachment(kind, BUNDLE, body, signed)
        elif kind == "provenance":
            told = {annotation_keys.PREDICATE: PROVENANCE}
            yield Attachment(kind, IN_TOTO, provenance(materials, source=source), told)
        elif kind != "signature":
            artifact_type = SPDX if kind == "spdx" else CYCLONEDX
            yield Attachment(kind, artifact_type, bill_of_materials(materials, kind))


def attach(
    registry: ImageRegistry, reference: Reference, image: Descriptor, attachment: Attachment
) -> Descriptor:
    """Push a document whose subject is ``image``; what is attached already is left as it is.

    A document is the same if its type and annotations are and, unless it is signed, its content:
    two signatures by one key of one statement differ and say the same.
    """
    subject = reference.at_digest(image.digest)
    blob = Descriptor(attachment.artifact_type, digest_of(attachment.body), len(attachment.body))
    empty = Descriptor(OCI_EMPTY, digest_of(_EMPTY), len(_EMPTY))
    manifest = Manifest(
        config=empty,
        layers=(blob,),
        annotations=attachment.annotations,
        artifact_type=attachment.artifact_type,
        subject=Descriptor(image.media_type, image.digest, image.size),
    )
    body = manifest.to_bytes()
    if known := _attached(registry, subject, attachment, digest_of(body)):
        return known
    registry.write_blob(subject, empty, lambda: [_EMPTY])
    registry.write_blob(subject, blob, lambda: [attachment.body])
    return registry.write_manifest(subject.at_digest(digest_of(body)), OCI_MANIFEST, body)


def attached(
    registry: ImageRegistry, reference: Reference, *, artifact_type: str = ""
) -> list[Descriptor]:
    """Return what is attached to the image of a digest. Raises `ReferrersUnsupported`."""
    if not isinstance(registry, ListsReferrers):
        raise ReferrersUnsupported(f"{reference.host} cannot say what is attached to an image.")
    return registry.referrers(reference, artifact_type=artifact_type)


def read_attachment(registry: ImageRegistry, reference: Reference, descriptor: Descriptor) -> bytes:
    """Return the document behind a descriptor of `attached`. Raises `InvalidImage`."""
    _, body = registry.read_manifest(reference.at_digest(descriptor.digest))
    layers = parse_manifest(body).layers
    if len(layers) != 1 or layers[0].size > _LARGEST:
        raise InvalidImage(f"{descriptor.digest} is not one document of a reasonable size.")
    return b"".join(registry.read_blob(reference, layers[0]))


def _attached(
    registry: ImageRegistry, subject: Reference, attachment: Attachment, digest: str
) -> Descriptor | None:
    if not isinstance(registry, ListsReferrers):
        return None
    for found in registry.referrers(subject, artifact_type=attachment.artifact_type):
        same_signer = attachment.artifact_type == BUNDLE and all(
            found.annotations.get(name) == text for name, text in attachment.annotations.items()
        )
        if found.digest == digest or same_signer:
            return found
    return None


def _statement(materials: Materials, kind: Kind, source: str) -> bytes:
    if kind == "provenance":
        return provenance(materials, source=source)
    image = materials.image
    predicate: object = {}
    if kind != "signature":
        predicate = parse_object(bill_of_materials(materials, kind), "bill")
    name = f"{image.reference.host}/{image.reference.repository}"
    return statement(name, image.descriptor, _PREDICATES[kind], predicate)
