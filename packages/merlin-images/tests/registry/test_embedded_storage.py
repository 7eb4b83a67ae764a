"""What the built-in registry's disk must survive: kills, restarts, full disks, garbage."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from merlin_images.registry.digests import digest_of
from merlin_images.registry.embedded.garbage import Collected, collect_garbage
from merlin_images.registry.embedded.storage import RegistryStorage
from merlin_images.registry.errors import (
    DigestMismatch,
    ImageNotFound,
    InvalidReference,
    RegistryFull,
    UploadOutOfOrder,
    UploadUnknown,
)
from merlin_images.registry.manifests import read_links
from merlin_images.registry.port import OCI_CONFIG, OCI_MANIFEST, BlobWrite, Descriptor
from merlin_images.registry.reference import Reference
from merlin_images.registry.samples import (
    describe,
    manifest_of,
    push_blob,
    push_image,
    random_bytes,
)

HOME = Reference("", "team/image", tag="v1")
HOUR = 3600.0


def assert_sound(storage: RegistryStorage) -> int:
    """Recompute every digest, and check that all that is visible is whole; count the tags."""
    for digest, path in storage.content.all_files():
        assert digest_of(path.read_bytes(), digest.partition(":")[0]) == digest
    tags = 0
    for repository in storage.all_repositories():
        for digest, _ in repository.blobs():
            assert storage.content.path(digest).exists()
        for digest, _ in repository.manifests():
            body = storage.content.path(digest).read_bytes()
            links = read_links(repository.media_type(digest) or "", body)
            assert all(repository.has_blob(blob.digest) for blob in links.blobs)
        for tag in repository.tags():
            assert repository.media_type(repository.tag(tag) or "") is not None
            tags += 1
    return tags


PUSHER = """
import sys
from pathlib import Path
from merlin_images.registry.samples import push_image
from merlin_images.registry.embedded.storage import RegistryStorage
from merlin_images.registry.reference import Reference
storage = RegistryStorage(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    push_image(storage, Reference("", f"team/image{number % 3}", tag=f"v{number}"), seed=number)
    print(number, flush=True)
    number += 1
"""


def kill_pusher(root: Path, first: int, after: int) -> int:
    """Push images until ``after`` are acknowledged, kill at once; return the last of them."""
    command = [sys.executable, "-c", PUSHER, str(root), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as pusher:
        assert pusher.stdout is not None
        last = first
        for _ in range(after):
            last = int(pusher.stdout.readline())
        pusher.send_signal(signal.SIGKILL)
        for line in pusher.stdout:
            last = int(line)
    return last


@pytest.mark.parametrize("kills", [4, pytest.param(200, marks=pytest.mark.long)])
def test_a_kill_leaves_nothing_half_done(tmp_path: Path, kills: int) -> None:
    chance = random.Random(kills)
    following = 0
    for _ in range(kills):
        last = kill_pusher(tmp_path, following, chance.randint(1, 20))
        storage = RegistryStorage(tmp_path)
        # What was acknowledged is there; one more may have got that far unheard.
        assert assert_sound(storage) - (last + 1) in {0, 1}
        following = last + 1
    collect_garbage(storage, now=tmp_path.stat().st_mtime + 48 * HOUR, grace_seconds=HOUR)
    assert_sound(storage)
    assert list(storage.content.abandoned()) == []


def test_an_upload_goes_on_after_a_restart(storage: RegistryStorage, tmp_path: Path) -> None:
    upload = storage.uploads.open("team/image")
    with upload.appending() as append:
        append(b"first half, ")
    restarted = RegistryStorage(tmp_path / "registry")
    again = restarted.uploads.find("team/image", upload.id)
    assert again.size == 12
    with again.appending(12) as append:
        append(b"second half")
    content = b"first half, second half"
    restarted.finish_upload("team/image", again, digest_of(content))
    assert b"".join(restarted.read_blob(HOME, describe(content))) == content
    with pytest.raises(UploadUnknown):
        restarted.uploads.find("team/image", upload.id)


def test_an_upload_belongs_to_its_repository(storage: RegistryStorage) -> None:
    upload = storage.uploads.open("team/image")
    for name, upload_id in (("team/other", upload.id), ("team/image", "0" * 32), ("x", "../x")):
        with pytest.raises(UploadUnknown):
            storage.uploads.find(name, upload_id)


def test_nobody_changes_what_is_being_closed(storage: RegistryStorage) -> None:
    upload = storage.uploads.open("team/image")
    with upload.appending() as append:
        append(b"content")
        with pytest.raises(UploadOutOfOrder), upload.appending():
            pytest.fail("two at once")
        with pytest.raises(UploadOutOfOrder):
            upload.finish(storage.content, digest_of(b"content"))


def test_wrong_bytes_end_the_upload(storage: RegistryStorage) -> None:
    upload = storage.uploads.open("team/image")
    with upload.appending() as append:
        append(b"content")
    with pytest.raises(DigestMismatch):
        storage.finish_upload("team/image", upload, digest_of(b"other"))
    with pytest.raises(UploadUnknown):
        storage.uploads.find("team/image", upload.id)
    assert list(storage.content.all_files()) == []


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Files above one MiB fail to grow, which Python sees as a disk that is full (EFBIG)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_said_and_nothing_stays(storage: RegistryStorage, full_disk: None) -> None:
    content = random_bytes(1, 3 << 20)
    with pytest.raises(RegistryFull):
        push_blob(storage, HOME, content)
    upload = storage.uploads.open("team/image")
    with pytest.raises(RegistryFull), upload.appending() as append:
        append(content)
    assert list(storage.content.all_files()) == []
    assert list(storage.content.abandoned()) == []
    assert list(storage.uploads.all_folders()) == []


def test_a_full_disk_over_http(served: str, storage: RegistryStorage, full_disk: None) -> None:
    content = random_bytes(1, 3 << 20)
    opened = httpx2.post(f"http://{served}/v2/team/image/blobs/uploads/")
    answer = httpx2.put(
        f"http://{served}{opened.headers['Location']}?digest={digest_of(content)}", content=content
    )
    assert answer.status_code == 507
    assert "full" in answer.json()["errors"][0]["message"]
    assert list(storage.uploads.all_folders()) == []


@pytest.mark.parametrize("name", ["../outside", "/etc", "a/../../b", "A", "", "_tags"])
def test_hostile_names_reach_nothing(storage: RegistryStorage, name: str) -> None:
    with pytest.raises(InvalidReference):
        storage.resolve(Reference("", name, tag="v1"))
    with pytest.raises(InvalidReference):
        push_blob(storage, Reference("", name), b"content")
    with pytest.raises(InvalidReference):
        storage.resolve(Reference("", "team/image", tag="../../x"))


def age(storage: RegistryStorage, seconds: float) -> None:
    """Make everything on the disk older."""
    root = storage.content.path(digest_of(b"")).parents[3]
    for path in root.rglob("*"):
        status = path.stat()
        os.utime(path, (status.st_atime - seconds, status.st_mtime - seconds))


def now(storage: RegistryStorage) -> float:
    """A moment just after everything was written."""
    root = storage.content.path(digest_of(b"")).parents[3]
    return max(path.stat().st_mtime for path in root.rglob("*")) + 1


def test_garbage_is_what_no_manifest_names(storage: RegistryStorage) -> None:
    image = push_image(storage, HOME, seed=1)
    push_image(storage, HOME.at_tag("v2"), seed=2)
    lonely = random_bytes(3, 1000)
    push_blob(storage, HOME, lonely)
    storage.uploads.open("team/image")
    moment = now(storage)
    assert collect_garbage(storage, now=moment, grace_seconds=HOUR) == Collected(0, 0, 0)
    storage.delete_manifest(HOME.at_digest(image.digest))
    later = moment + 2 * HOUR
    collected = collect_garbage(storage, now=later, grace_seconds=HOUR)
    # Layer, config and manifest of the deleted image, the blob of none, and one upload.
    assert (collected.blobs, collected.uploads) == (4, 1)
    assert collected.size > 6000
    assert assert_sound(storage) == 1
    assert collect_garbage(storage, now=later, grace_seconds=HOUR) == Collected(0, 0, 0)


def test_a_mounted_blob_outlives_its_first_repository(storage: RegistryStorage) -> None:
    content, other = b"shared", Reference("", "team/other", tag="v1")
    push_blob(storage, HOME, content)
    push_blob(storage, HOME, b"{}")
    body = manifest_of([describe(content)], describe(b"{}", OCI_CONFIG))
    for blob in (content, b"{}"):
        how = storage.write_blob(other, describe(blob), list, mount_from=[HOME.repository])
        assert how is BlobWrite.MOUNTED
    storage.write_manifest(other, OCI_MANIFEST, body)
    age(storage, 2 * HOUR)
    assert collect_garbage(storage, now=now(storage) + HOUR, grace_seconds=HOUR).blobs == 0
    assert b"".join(storage.read_blob(other, describe(content))) == content
    with pytest.raises(ImageNotFound):
        list(storage.read_blob(HOME, describe(content)))


def test_what_a_push_was_told_is_there_stays(storage: RegistryStorage) -> None:
    push_blob(storage, HOME, b"content")
    moment = now(storage)
    age(storage, 2 * HOUR)
    assert storage.use_blob(HOME.repository, digest_of(b"content"))
    assert collect_garbage(storage, now=moment, grace_seconds=HOUR) == Collected(0, 0, 0)


def test_pushes_and_garbage_collection_at_once(storage: RegistryStorage) -> None:
    push_image(storage, HOME)
    done = threading.Event()
    moment = now(storage)

    def collect() -> None:
        while not done.is_set():
            collect_garbage(storage, now=moment, grace_seconds=HOUR)

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        for number in range(30):
            pushed = push_image(storage, HOME.at_tag(f"t{number}"), seed=number % 5)
            age_of_blobs = storage.content.path(pushed.digest)
            os.utime(age_of_blobs, (moment - 2 * HOUR, moment - 2 * HOUR))
            if number % 3 == 0:
                storage.delete_manifest(HOME.at_digest(pushed.digest))
    finally:
        done.set()
        collector.join(30)
    assert_sound(storage)


def test_a_broken_request_can_be_resumed(served: str, storage: RegistryStorage) -> None:
    content = random_bytes(9, 300_000)

    def half() -> Iterator[bytes]:
        yield content[:150_000]
        raise ConnectionError

    opened = httpx2.post(f"http://{served}/v2/team/image/blobs/uploads/")
    location = f"http://{served}{opened.headers['Location']}"
    with httpx2.Client() as client, pytest.raises(ConnectionError):
        client.patch(location, content=half(), headers={"Content-Length": "300000"})
    received = 0
    while received != 150_000:  # The server learns of the broken connection a moment later.
        where = httpx2.get(location)
        received = int(where.headers["Range"].partition("-")[2]) + 1
    rest = httpx2.patch(
        location, content=content[received:], headers={"Content-Range": f"{received}-299999"}
    )
    assert rest.status_code == 202
    assert httpx2.put(f"{location}?digest={digest_of(content)}").status_code == 201
    assert b"".join(storage.read_blob(HOME, describe(content))) == content


def test_memory_stays_flat_over_http(served: str, storage: RegistryStorage) -> None:
    chunk = random_bytes(10, 1 << 20)
    size = 96 << 20
    whole = hashlib.sha256()
    for _ in range(96):
        whole.update(chunk)
    running = f"sha256:{whole.hexdigest()}"
    tracemalloc.start()  # Client and server are both this process.
    opened = httpx2.post(f"http://{served}/v2/team/image/blobs/uploads/")
    with httpx2.Client() as client:
        done = client.put(
            f"http://{served}{opened.headers['Location']}?digest={running}",
            content=(chunk for _ in range(96)),
            headers={"Content-Length": str(size)},
        )
        assert done.status_code == 201
        with client.stream("GET", f"http://{served}/v2/team/image/blobs/{running}") as response:
            assert sum(len(piece) for piece in response.iter_raw()) == size
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 << 20


def test_descriptors_of_another_size(storage: RegistryStorage) -> None:
    with pytest.raises(DigestMismatch):
        storage.write_blob(
            HOME, Descriptor("x", digest_of(b"content"), 3), lambda: [b"con", b"tent"]
        )
    assert list(storage.content.abandoned()) == []
