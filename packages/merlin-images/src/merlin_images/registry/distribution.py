"""A client for any registry that speaks the OCI distribution-spec: the `ImageRegistry` port."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import httpx2

from merlin_images.registry.auth import delete_scope, pull_scope, push_scope
from merlin_images.registry.blob_download import BlobDownloads
from merlin_images.registry.blob_upload import BlobUploads
from merlin_images.registry.credentials import Anonymous, Credentials
from merlin_images.registry.digests import check_digest, digest_of, split_digest
from merlin_images.registry.errors import (
    BlobsMissing,
    DigestMismatch,
    ImageNotFound,
    InvalidDigest,
    ManifestInvalid,
    RegistryError,
    RegistryUnavailable,
    RegistryUnsupported,
)
from merlin_images.registry.http_transport import Answer, Budget, HttpTransport, Retry, World
from merlin_images.registry.manifests import (
    MANIFEST_TYPES,
    read_links,
    read_referrers,
    referrers_index,
)
from merlin_images.registry.port import OCI_INDEX, BlobWrite, Descriptor
from merlin_images.registry.reference import Reference
from merlin_images.registry.wire_errors import errors_of

_ACCEPT = {"Accept": ", ".join(MANIFEST_TYPES)}
_MISSING = {"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"}
# Amazon's registry takes no larger pages.
_TAGS_A_PAGE = 1000


class DistributionRegistry:
    """One registry host.

    Plain HTTP is spoken if ``insecure``, and to this very machine unless a ``ca_file`` (PEM) is
    given; else HTTPS. Blobs larger than ``chunk_bytes``, if that is not 0, are sent in chunks of so
    many bytes. ``transport`` replaces the network in tests.
    """

    def __init__(
        self,
        host: str,
        *,
        insecure: bool = False,
        ca_file: Path | None = None,
        credentials: Credentials | None = None,
        retry: Retry | None = None,
        world: World | None = None,
        chunk_bytes: int = 0,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._http = HttpTransport(
            host,
            insecure=insecure,
            ca_file=ca_file,
            credentials=credentials or Anonymous(),
            retry=retry or Retry(),
            world=world or World(),
            transport=transport,
        )
        self._downloads = BlobDownloads(self._http)
        self._uploads = BlobUploads(self._http, chunk_bytes=chunk_bytes)
        # The fallback tag of referrers is read, changed and written; nobody else's lock helps.
        self._referrers_lock = threading.Lock()

    @property
    def address(self) -> str:
        """Where the registry is asked: its scheme, host and port."""
        return str(self._http.base_url)

    def close(self) -> None:
        """Close the connections; calls after that fail."""
        self._http.close()

    def resolve(self, reference: Reference) -> Descriptor | None:
        budget = self._http.budget()
        answer = self._manifest("HEAD", reference, budget)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise self._http.failure(answer, f"looking up {reference}")
        digest = reference.digest or self._digest_said(answer, reference)
        size = answer.headers.get("Content-Length", "")
        # Old registries and some proxies leave these out.
        if not digest or not re.fullmatch(r"[0-9]{1,18}", size):
            found = self._read_manifest(reference, budget)
            return found[0] if found else None
        return Descriptor(_media_type(answer), digest, int(size))

    def read_manifest(self, reference: Reference) -> tuple[Descriptor, bytes]:
        found = self._read_manifest(reference, self._http.budget())
        if found is None:
            raise ImageNotFound(f"There is no image {reference}.")
        return found

    def write_manifest(self, reference: Reference, media_type: str, body: bytes) -> Descriptor:
        links = read_links(media_type, body)
        algorithm = split_digest(reference.digest)[0] if reference.digest else "sha256"
        digest = digest_of(body, algorithm)
        if reference.digest:
            check_digest(digest, reference.digest)
        budget = self._http.budget()
        answer = self._put_manifest(reference, links.descriptor.media_type, body, digest, budget)
        if links.subject is not None and "OCI-Subject" not in answer.headers:
            own = read_links(media_type, body, digest).descriptor
            self._add_fallback_referrer(reference, links.subject.digest, own, budget)
        return Descriptor(links.descriptor.media_type, digest, len(body))

    def read_blob(
        self, repository: Reference, descriptor: Descriptor, *, offset: int = 0
    ) -> Iterator[bytes]:
        return self._downloads.read(repository.repository, descriptor, offset)

    def write_blob(
        self,
        repository: Reference,
        descriptor: Descriptor,
        open_source: Callable[[], Iterable[bytes]],
        *,
        mount_from: Sequence[str] = (),
    ) -> BlobWrite:
        return self._uploads.write(repository.repository, descriptor, open_source, mount_from)

    def stream_blob(
        self,
        repository: Reference,
        media_type: str,
        open_source: Callable[[], Iterable[bytes]],
    ) -> Descriptor:
        digest, size = self._uploads.stream(repository.repository, open_source)
        return Descriptor(media_type, digest, size)

    def tags(self, repository: Reference) -> Iterator[str]:
        budget = self._http.budget()
        url = httpx2.URL(f"/v2/{repository.repository}/tags/list?n={_TAGS_A_PAGE}")
        while True:
            answer = self._http.request(
                "GET",
                url,
                repository=repository.repository,
                scopes=[pull_scope(repository.repository)],
                budget=budget,
            )
            if answer.status == 404:
                return
            if answer.status != 200:
                raise self._http.failure(answer, f"listing the tags of {repository}")
            yield from self._tags_of(answer)
            following = self._next_page(answer)
            if following is None:
                return
            url = following

    def delete_manifest(self, reference: Reference) -> None:
        """As the port says; a registry that cannot delete a tag alone is `RegistryUnsupported`:
        deleting the digest instead would take its other tags along."""
        answer = self._http.request(
            "DELETE",
            _manifest_path(reference, reference.identifier),
            repository=reference.repository,
            scopes=[delete_scope(reference.repository)],
            budget=self._http.budget(),
        )
        codes = {error.code for error in errors_of(answer.body)}
        if answer.status == 405 or "UNSUPPORTED" in codes or "DIGEST_INVALID" in codes:
            raise RegistryUnsupported(
                f"{reference.host} does not delete {reference.identifier}.",
                hint="Deleting may be switched off there, or possible by digest only.",
            )
        if answer.status not in {200, 202, 204, 404}:
            raise self._http.failure(answer, f"deleting {reference}")

    def referrers(self, reference: Reference, *, artifact_type: str = "") -> list[Descriptor]:
        budget = self._http.budget()
        query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
        url = httpx2.URL(f"/v2/{reference.repository}/referrers/{reference.digest}{query}")
        found: list[Descriptor] = []
        following: httpx2.URL | None = url
        while following is not None:
            answer = self._http.request(
                "GET",
                following,
                repository=reference.repository,
                scopes=[pull_scope(reference.repository)],
                budget=budget,
            )
            # Old registries know no referrers, and some answer with a page for people.
            if answer.status == 404 or _media_type(answer) != OCI_INDEX:
                found = self._fallback_referrers(reference, reference.digest, budget)
                break
            if answer.status != 200:
                raise self._http.failure(answer, f"listing what refers to {reference}")
            found += self._referrers_in(answer.body, reference)
            following = self._next_page(answer)
        return [each for each in found if artifact_type in {"", each.artifact_type}]

    def _manifest(self, method: str, reference: Reference, budget: Budget) -> Answer:
        return self._http.request(
            method,
            _manifest_path(reference, reference.identifier),
            repository=reference.repository,
            scopes=[pull_scope(reference.repository)],
            budget=budget,
            headers=_ACCEPT,
        )

    def _read_manifest(
        self, reference: Reference, budget: Budget
    ) -> tuple[Descriptor, bytes] | None:
        while True:
            answer = self._manifest("GET", reference, budget)
            if answer.status == 404:
                return None
            if answer.status != 200:
                raise self._http.failure(answer, f"reading {reference}")
            digest = reference.digest or self._digest_said(answer, reference)
            if not digest:
                self._check_is_manifest(answer, reference)
                digest = digest_of(answer.body)
            actual = digest_of(answer.body, split_digest(digest)[0])
            if actual == digest:
                return Descriptor(_media_type(answer), digest, len(answer.body)), answer.body
            budget.spend(
                DigestMismatch(
                    f"The manifest of {reference} came as {actual} instead of {digest}.",
                    digest=digest,
                    actual=actual,
                )
            )

    def _check_is_manifest(self, answer: Answer, reference: Reference) -> None:
        """Take nothing else for one, such as the page of a proxy that wants people to sign in."""
        try:
            read_links(_media_type(answer), answer.body)
        except ManifestInvalid as error:
            raise RegistryUnavailable(
                f"{reference.host} answered something else than the manifest of {reference}: "
                f"{error.message}",
                host=reference.host,
            ) from None

    def _put_manifest(
        self, reference: Reference, media_type: str, body: bytes, digest: str, budget: Budget
    ) -> Answer:
        """Put a manifest, again if other bytes arrived: a tag must not stay on those."""
        while True:
            answer = self._http.request(
                "PUT",
                _manifest_path(reference, reference.tag or digest),
                repository=reference.repository,
                scopes=[push_scope(reference.repository)],
                budget=budget,
                headers={"Content-Type": media_type},
                content=body,
            )
            if answer.status not in {200, 201, 202}:
                self._refused_manifest(answer, reference)
            stored = answer.headers.get("Docker-Content-Digest", digest)
            # A registry may name it by another algorithm.
            if stored == digest or stored.partition(":")[0] != digest.partition(":")[0]:
                return answer
            budget.spend(
                DigestMismatch(
                    f"{reference.host} received {stored[:200]} for {reference}, which is {digest}.",
                    digest=digest,
                )
            )

    def _digest_said(self, answer: Answer, reference: Reference) -> str:
        digest = answer.headers.get("Docker-Content-Digest", "")
        try:
            if digest:
                split_digest(digest)
        except InvalidDigest:
            raise RegistryUnavailable(
                f"{reference.host} answered no digest for {reference} but {digest[:100]!r}.",
                host=reference.host,
            ) from None
        return digest

    def _refused_manifest(self, answer: Answer, reference: Reference) -> None:
        errors = errors_of(answer.body)
        missing = [digest for error in errors if error.code in _MISSING for digest in error.digests]
        if missing:
            raise BlobsMissing(
                f"{reference} refers to what is not in its repository.",
                digests=list(dict.fromkeys(missing)),
            )
        codes = {error.code for error in errors}
        if "MANIFEST_INVALID" in codes:
            raise ManifestInvalid(
                f"{reference.host} refused the manifest of {reference}: {errors[0].message}."
            )
        if "DIGEST_INVALID" in codes:
            raise DigestMismatch(f"{reference.host} received other bytes than {reference}.")
        raise self._http.failure(answer, f"writing {reference}")

    def _fallback_referrers(
        self, reference: Reference, subject: str, budget: Budget
    ) -> list[Descriptor]:
        found = self._read_manifest(_fallback(reference, subject), budget)
        return self._referrers_in(found[1], reference) if found else []

    def _referrers_in(self, body: bytes, reference: Reference) -> list[Descriptor]:
        try:
            return read_referrers(body)
        except ManifestInvalid as error:
            raise RegistryError(
                f"{reference.host} answered no list of what refers to {reference}: {error.message}",
                host=reference.host,
            ) from None

    def _next_page(self, answer: Answer) -> httpx2.URL | None:
        """Return where the Link header leads (RFC 8288), relative to what was asked."""
        for link in answer.headers.get_list("Link", split_commas=True):
            target, _, relation = link.partition(">")
            if 'rel="next"' in relation.replace(" ", "") or "rel=next" in relation:
                target = target.strip().removeprefix("<")
                following = self._http.absolute(target, seen_from=answer.url)
                if following == answer.url:
                    raise RegistryError(
                        f"{self._http.host} answers the same page over and over.",
                        host=self._http.host,
                    )
                return following
        return None

    def _tags_of(self, answer: Answer) -> list[str]:
        try:
            listed = json.loads(answer.body)["tags"] or []
        except (ValueError, KeyError, TypeError, RecursionError):
            listed = None
        if not isinstance(listed, list):
            raise RegistryError(
                f"{self._http.host} answered a list of tags that is none.", host=self._http.host
            )
        return [tag for tag in listed if isinstance(tag, str)]

    def _add_fallback_referrer(
        self, reference: Reference, subject: str, own: Descriptor, budget: Budget
    ) -> None:
        """Keep the list ourselves (distribution-spec, "Referrers Tag Schema")."""
        with self._referrers_lock:
            listed = self._fallback_referrers(reference, subject, budget)
            if any(each.digest == own.digest for each in listed):
                return
            index = referrers_index([*listed, own])
            target = _fallback(reference, subject)
            self._put_manifest(target, OCI_INDEX, index, digest_of(index), budget)


def _fallback(reference: Reference, subject: str) -> Reference:
    algorithm, hexadecimal = split_digest(subject)
    return reference.at_tag(f"{algorithm[:32]}-{hexadecimal[:64]}")


def _manifest_path(reference: Reference, identifier: str) -> str:
    return f"/v2/{reference.repository}/manifests/{identifier}"


def _media_type(answer: Answer) -> str:
    return answer.headers.get("Content-Type", "").partition(";")[0].strip()
