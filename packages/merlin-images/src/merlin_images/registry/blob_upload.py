"""Blobs to a distribution registry: in one stream where it is taken, else in chunks, resumed.

One request with the whole blob is the fastest and what every registry takes (GitHub's, Google's and
Amazon's take nothing else). Chunks are for proxies that bound bodies:
they are used once a registry refused a body for its size, says a bound, or is configured so. An
upload that breaks goes on where the registry says it has come to.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from urllib.parse import urlencode

import httpx2

from merlin_images.registry.auth import pull_scope, push_scope
from merlin_images.registry.digests import describe_chunks, verified
from merlin_images.registry.errors import DigestMismatch, RegistryError, RegistryUnavailable
from merlin_images.registry.http_transport import Answer, Budget, HttpTransport
from merlin_images.registry.port import BlobWrite, Descriptor
from merlin_images.registry.upload_bodies import Pieces, Source, sized
from merlin_images.registry.upload_sessions import (
    Session,
    closing_url,
    read_session,
    received,
)
from merlin_images.registry.wire_errors import errors_of

# Under what proxies in front of registries often allow.
_FIRST_CHUNK = 64 << 20
_SMALLEST_CHUNK = 1 << 20
# Sending so much takes no longer than asking first whether it is needed.
_SMALL = 4 << 20
# Seen of registries behind object storage when a session was lost: worth a fresh one.
_SESSION_LOST = {"BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN"}
_OK = {200, 201, 202, 204}


class _TooMuchAtOnce(RegistryError):
    """The registry, or a proxy in front of it, refused a body for its size."""


class BlobUploads:
    """Writes blobs to one registry. ``chunk_bytes`` bounds what one request carries; 0 sends a blob
    in one stream, and in chunks only once the registry has refused that."""

    def __init__(self, http: HttpTransport, *, chunk_bytes: int = 0) -> None:
        self._http = http
        # Learnt of the registry: how much it takes at once.
        self._at_once = chunk_bytes

    def write(
        self,
        repository: str,
        descriptor: Descriptor,
        open_source: Callable[[], Iterable[bytes]],
        mount_from: Sequence[str],
    ) -> BlobWrite:
        """Mount or upload; a try that breaks half way goes on where the registry says it has come
        to, or starts a new session."""
        budget = self._http.budget()
        small = descriptor.size <= _SMALL
        if not mount_from and not small and self._exists(repository, descriptor, budget):
            return BlobWrite.PRESENT
        # To mount from itself is to ask for a blob and to open an upload of it at once. A registry
        # that does not see it so is sent a little that it has.
        sources = mount_from or ([repository] if small else ())
        session = self._mount(repository, descriptor.digest, sources, budget)
        if session is None:
            return BlobWrite.MOUNTED if mount_from else BlobWrite.PRESENT
        source = Source(lambda: verified(open_source(), descriptor))
        with self._http.slots.up:
            self._upload(repository, descriptor, source, session, budget)
        return BlobWrite.UPLOADED

    def stream(
        self, repository: str, open_source: Callable[[], Iterable[bytes]]
    ) -> tuple[str, int]:
        """Upload what is not known yet; return the digest and size of what was sent.

        One request carries the bytes while they are hashed, a second names them. The source is
        opened once a try. Where requests are bounded it is read once more, before: chunks are of
        use only if an upload that breaks can go on, and that takes its digest.
        """
        budget = self._http.budget()
        source = Source(open_source)
        while True:
            session = self._open(repository, budget)
            try:
                if self._at_once or session.most:
                    named = describe_chunks("application/octet-stream", source())
                    with self._http.slots.up:
                        self._upload(repository, named, source, session, budget)
                    return named.digest, named.size
                with self._http.slots.up:
                    return self._stream_once(repository, source, session, budget)
            except _TooMuchAtOnce:
                self._cancel(repository, session.url)
                if self._at_once:
                    raise
                self._at_once = _FIRST_CHUNK
            except (RegistryUnavailable, DigestMismatch) as failure:
                self._cancel(repository, session.url)
                if source.failure is not None:
                    raise source.failure from None
                budget.spend(failure)
            except BaseException:
                self._cancel(repository, session.url)
                raise

    def _exists(self, repository: str, descriptor: Descriptor, budget: Budget) -> bool:
        digest = descriptor.digest
        answer = self._request("HEAD", f"/v2/{repository}/blobs/{digest}", repository, budget)
        if answer.status not in {200, 404}:
            raise self._http.failure(answer, f"looking for {digest}")
        # Of another size it is something else, such as the page of a proxy.
        size = answer.headers.get("Content-Length", "")
        return answer.status == 200 and size in {"", str(descriptor.size)}

    def _mount(
        self, repository: str, digest: str, mount_from: Sequence[str], budget: Budget
    ) -> Session | None:
        """Return ``None`` if the blob is mounted, else an upload session to use instead.

        A registry that will not mount opens a session in the same answer; a registry that takes
        offence at being asked gets a plain request.
        """
        session: Session | None = None
        for source in mount_from:
            if session is not None:
                self._cancel(repository, session.url)
            query = urlencode({"mount": digest, "from": source})
            answer = self._request(
                "POST",
                f"/v2/{repository}/blobs/uploads/?{query}",
                repository,
                budget,
                # To push here is to read here.
                more_scopes=[pull_scope(source)] if source != repository else [],
            )
            if answer.status == 201:
                return None
            session = read_session(self._http, answer) if answer.status == 202 else None
        return session or self._open(repository, budget)

    def _open(self, repository: str, budget: Budget) -> Session:
        answer = self._request("POST", f"/v2/{repository}/blobs/uploads/", repository, budget)
        if answer.status != 202:
            raise self._http.failure(answer, f"opening an upload to {repository}")
        return read_session(self._http, answer)

    def _upload(
        self,
        repository: str,
        descriptor: Descriptor,
        source: Source,
        session: Session,
        budget: Budget,
    ) -> None:
        sent = 0
        try:
            while True:
                resumes = True
                try:
                    self._send_rest(
                        repository, descriptor, source, session, sent=sent, budget=budget
                    )
                except _TooMuchAtOnce:
                    if not self._shrink(descriptor):
                        raise
                except (RegistryUnavailable, DigestMismatch) as failure:
                    if source.failure is not None:
                        raise source.failure from None
                    budget.spend(failure)
                    # Other bytes came there than were sent, of this try or of one before.
                    resumes = not (failure.data.get("lost") or isinstance(failure, DigestMismatch))
                else:
                    return
                following = self._where_it_is(
                    repository, descriptor, session, budget, resumes=resumes
                )
                if following is None:
                    return
                session, sent = following
        except BaseException:
            self._cancel(repository, session.url)
            raise

    def _send_rest(
        self,
        repository: str,
        descriptor: Descriptor,
        source: Source,
        session: Session,
        *,
        sent: int,
        budget: Budget,
    ) -> None:
        if sent or self._chunk_bytes(session, descriptor):
            self._send_chunks(repository, descriptor, source, session, sent=sent, budget=budget)
        else:
            self._send_whole(repository, descriptor, source, session, budget)

    def _send_whole(
        self,
        repository: str,
        descriptor: Descriptor,
        source: Source,
        session: Session,
        budget: Budget,
    ) -> None:
        answer = self._send(
            "PUT",
            closing_url(session.url, descriptor.digest),
            repository,
            budget,
            size=descriptor.size,
            content=lambda: sized(source()),
        )
        self._check_closed(answer, repository, descriptor)

    def _send_chunks(
        self,
        repository: str,
        descriptor: Descriptor,
        source: Source,
        session: Session,
        *,
        sent: int,
        budget: Budget,
    ) -> None:
        """Send from ``sent`` on, in order, always to where the last answer says; then close.

        The closing request is one of its own, so it goes with a token that is fresh.
        """
        at_once = self._chunk_bytes(session, descriptor) or descriptor.size
        pieces = Pieces(source(), self._http.host)
        pieces.skip(sent)
        while sent < descriptor.size:
            size = min(at_once, descriptor.size - sent)
            answer = self._send(
                "PATCH",
                session.url,
                repository,
                budget,
                size=size,
                content=pieces.once(size),
                content_range=f"{sent}-{sent + size - 1}",
            )
            sent += size
            if answer.status not in _OK or received(answer, sent) != sent:
                raise self._broken(answer, repository, descriptor)
            session = read_session(self._http, answer, session)
        pieces.check_end()
        self._close(repository, descriptor, session, budget)

    def _stream_once(
        self, repository: str, source: Source, session: Session, budget: Budget
    ) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0

        def hashed() -> Iterator[bytes]:
            nonlocal digest, size
            digest, size = hashlib.sha256(), 0
            for chunk in sized(source()):
                digest.update(chunk)
                size += len(chunk)
                yield chunk

        answer = self._send("PATCH", session.url, repository, budget, content=hashed)
        name = f"sha256:{digest.hexdigest()}"
        descriptor = Descriptor("application/octet-stream", name, size)
        if answer.status not in _OK:
            raise self._broken(answer, repository, descriptor)
        session = read_session(self._http, answer, session)
        try:
            self._close(repository, descriptor, session, budget)
        except RegistryUnavailable:
            # Only the answer may be lost; to look costs less than to send everything again.
            if not self._exists(repository, descriptor, budget):
                raise
        return name, size

    def _where_it_is(
        self,
        repository: str,
        descriptor: Descriptor,
        session: Session,
        budget: Budget,
        *,
        resumes: bool,
    ) -> tuple[Session, int] | None:
        """Ask how far an upload came; ``None`` if it came to its end, and only the answer was lost.

        A session that is lost or makes no sense is replaced.
        """
        if resumes:
            with contextlib.suppress(RegistryError):
                answer = self._request("GET", str(session.url), repository, budget)
                if answer.status not in _OK:
                    if self._exists(repository, descriptor, budget):
                        return None
                elif 0 < (sent := received(answer, 0)) <= descriptor.size:
                    return read_session(self._http, answer, session), sent
        self._cancel(repository, session.url)
        return self._open(repository, budget), 0

    def _chunk_bytes(self, session: Session, descriptor: Descriptor) -> int:
        """How much to send at once; 0 for all of it, which is the fastest where it is allowed."""
        limits = [limit for limit in (self._at_once, session.most) if limit]
        if not limits or min(limits) >= descriptor.size:
            return 0
        return max(min(limits), session.least)

    def _shrink(self, descriptor: Descriptor) -> bool:
        """Send less at once to this registry from now on; false if that can be no help."""
        now = min(self._at_once or _FIRST_CHUNK * 2, descriptor.size)
        self._at_once = now // 2
        return self._at_once >= _SMALLEST_CHUNK

    def _broken(
        self, answer: Answer, repository: str, descriptor: Descriptor
    ) -> RegistryError | _TooMuchAtOnce:
        codes = {error.code for error in errors_of(answer.body)}
        if answer.status == 413:
            return _TooMuchAtOnce(
                f"{self._http.host} takes no {descriptor.size} bytes of {repository} at once."
            )
        if "DIGEST_INVALID" in codes:
            return DigestMismatch(
                f"{self._http.host} received other bytes than {descriptor.digest}.",
                digest=descriptor.digest,
                host=self._http.host,
            )
        lost = bool(codes & _SESSION_LOST) or answer.status in {404, 416}
        if lost or answer.status in _OK:
            return RegistryUnavailable(
                f"{self._http.host} lost an upload to {repository}.",
                host=self._http.host,
                lost=True,
            )
        return self._http.failure(
            answer, f"uploading {descriptor.digest} ({descriptor.size} bytes)"
        )

    def _close(
        self, repository: str, descriptor: Descriptor, session: Session, budget: Budget
    ) -> None:
        url = closing_url(session.url, descriptor.digest)
        answer = self._send("PUT", url, repository, budget, size=0, content=None)
        self._check_closed(answer, repository, descriptor)

    def _check_closed(self, answer: Answer, repository: str, descriptor: Descriptor) -> None:
        if answer.status not in {201, 202, 204}:
            raise self._broken(answer, repository, descriptor)

    def _send(
        self,
        method: str,
        url: httpx2.URL | str,
        repository: str,
        budget: Budget,
        *,
        content: Callable[[], Iterable[bytes]] | None,
        size: int | None = None,
        content_range: str = "",
    ) -> Answer:
        headers = {"Content-Type": "application/octet-stream"}
        if size is not None:
            headers["Content-Length"] = str(size)
        if content_range:
            headers["Content-Range"] = content_range
        return self._http.send(
            method,
            url,
            repository=repository,
            scopes=[push_scope(repository)],
            budget=budget,
            headers=headers,
            content=content,
        )

    def _cancel(self, repository: str, session: httpx2.URL) -> None:
        """Best effort: sessions run out by themselves, and some registries cannot cancel."""
        try:
            self._http.send(
                "DELETE",
                session,
                repository=repository,
                scopes=[push_scope(repository)],
                budget=self._http.budget(),
            )
        except RegistryError:
            return

    def _request(
        self,
        method: str,
        url: str,
        repository: str,
        budget: Budget,
        *,
        more_scopes: Sequence[str] = (),
    ) -> Answer:
        return self._http.request(
            method,
            url,
            repository=repository,
            scopes=[push_scope(repository), *more_scopes],
            budget=budget,
            headers={"Content-Length": "0"} if method == "POST" else None,
        )
