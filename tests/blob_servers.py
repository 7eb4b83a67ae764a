"""Real blob services for tests, each in an environment of its own under .parts, made once.

Nothing here shares a dependency with the workspace. A service starts on a free port of 127.0.0.1
in a folder it is given, and `Service.environ` holds what a client's environment needs to reach it.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import hmac
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

import httpx2

PARTS = Path(__file__).resolve().parent.parent / ".parts"
START_SECONDS = 60

PACKAGES = {
    "swift": ["swift==2.38.3", "setuptools<80"],
    "moto": ["moto[server,s3]"],
    "gcs-emulator": ["gcp-storage-emulator==2026.7.19"],
}
AZURITE = "azurite@3.35.0"
# The account and key every Azure emulator has; public, and good for nothing else.
AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


class CannotInstall(Exception):
    """A service's packages cannot be had here."""


@dataclass(frozen=True)
class Service:
    """A running service. ``make_bucket`` creates a bucket, by the service's own means."""

    url: str
    make_bucket: Callable[[str], None]
    environ: Mapping[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def moto(folder: Path) -> Iterator[Service]:
    """S3 as moto emulates it: it does not check signatures."""
    program = _python_environment("moto") / "moto_server"
    url = f"http://127.0.0.1:{(port := _free_port())}"
    with _running([[str(program), "-H", "127.0.0.1", "-p", str(port)]], folder, url):
        yield _s3(url, "key", "secret")


@contextlib.contextmanager
def swift(folder: Path) -> Iterator[Service]:
    """OpenStack Swift with its S3 API: signatures are checked."""
    programs = _python_environment("swift")
    ports = {name: _free_port() for name in ("proxy", "account", "container", "object")}
    _configure_swift(folder, programs, ports)
    url = f"http://127.0.0.1:{ports['proxy']}"

    commands = [
        [str(programs / "python"), str(programs / f"swift-{name}-server"), f"{folder}/{name}.conf"]
        for name in ports
    ]
    with _running(commands, folder, f"{url}/healthcheck", {"SWIFT_DIR": str(folder)}):
        yield _s3(url, "test:tester", "testing")


@contextlib.contextmanager
def azurite(folder: Path) -> Iterator[Service]:
    """Azure Blob Storage as Microsoft's own emulator has it: signatures are checked."""
    program = _node_package(AZURITE) / "azurite-blob"
    root = f"http://127.0.0.1:{(port := _free_port())}"
    url = f"{root}/{AZURITE_ACCOUNT}"

    def make_bucket(name: str) -> None:
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
        lines = ["PUT", *[""] * 11, *(f"{key}:{headers[key]}" for key in sorted(headers))]
        lines += [f"/{AZURITE_ACCOUNT}/{AZURITE_ACCOUNT}/{name}", "restype:container"]
        digest = hmac.digest(
            base64.b64decode(AZURITE_KEY), "\n".join(lines).encode(), hashlib.sha256
        )
        headers["Authorization"] = (
            f"SharedKey {AZURITE_ACCOUNT}:{base64.b64encode(digest).decode()}"
        )
        httpx2.put(f"{url}/{name}?restype=container", headers=headers).raise_for_status()

    command = [str(program), "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    command += ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder)]
    environ = {
        "AZURE_STORAGE_CONNECTION_STRING": f"AccountName={AZURITE_ACCOUNT};"
        f"AccountKey={AZURITE_KEY};BlobEndpoint={url}"
    }
    with _running([command], folder, root):
        yield Service(url, make_bucket, environ)


@contextlib.contextmanager
def gcs_emulator(folder: Path) -> Iterator[Service]:
    """Google Cloud Storage's JSON API, emulated; it ignores preconditions."""
    program = _python_environment("gcs-emulator") / "gcp-storage-emulator"
    url = f"http://127.0.0.1:{(port := _free_port())}"

    command = [str(program), "start", "--quiet", "--in-memory", "--host", "127.0.0.1"]
    with _running([[*command, "--port", str(port)]], folder, url):
        yield at_gcs(url)


def at_gcs(url: str) -> Service:
    """What answers like Google Cloud Storage at an address."""

    def make_bucket(name: str) -> None:
        httpx2.post(f"{url}/storage/v1/b?project=test", json={"name": name}).raise_for_status()

    return Service(url, make_bucket, {"STORAGE_EMULATOR_HOST": url})


def _s3(url: str, key: str, secret: str) -> Service:
    def make_bucket(name: str) -> None:
        headers = _signed(key, secret, url.partition("://")[2], f"/{name}", time.gmtime())
        httpx2.put(f"{url}/{name}", headers=headers).raise_for_status()

    environ = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
    }
    return Service(url, make_bucket, environ)


def _signed(key: str, secret: str, host: str, path: str, now: time.struct_time) -> dict[str, str]:
    """Headers of an empty PUT, signed as AWS's "Signature Version 4" has it."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", now)
    scope = f"{stamp[:8]}/us-east-1/s3/aws4_request"
    empty = hashlib.sha256(b"").hexdigest()
    headers = {"host": host, "x-amz-content-sha256": empty, "x-amz-date": stamp}
    names = ";".join(headers)
    lines = ["PUT", path, "", *(f"{name}:{headers[name]}" for name in headers), "", names, empty]
    request = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    signing_key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        signing_key = hmac.digest(signing_key, part.encode(), hashlib.sha256)
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{request}"
    signature = hmac.digest(signing_key, text.encode(), hashlib.sha256).hex()
    credential = f"AWS4-HMAC-SHA256 Credential={key}/{scope}"
    return headers | {
        "Authorization": f"{credential}, SignedHeaders={names}, Signature={signature}"
    }


def _configure_swift(folder: Path, programs: Path, ports: Mapping[str, int]) -> None:
    (folder / "devices" / "disk").mkdir(parents=True)
    (folder / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_prefix = test\nswift_hash_path_suffix = test\n"
    )
    for name in ("account", "container", "object"):
        (folder / f"{name}.conf").write_text(
            f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {ports[name]}\nworkers = 0\n"
            f"swift_dir = {folder}\ndevices = {folder}/devices\nmount_check = false\n"
            f"log_level = ERROR\nuser =\n"
            f"[pipeline:main]\npipeline = {name}-server\n"
            f"[app:{name}-server]\nuse = egg:swift#{name}\n"
        )
        builder = [str(programs / "python"), str(programs / "swift-ring-builder")]
        device = f"r1z1-127.0.0.1:{ports[name]}/disk"
        for step in (["create", "4", "1", "0"], ["add", device, "1"], ["rebalance"]):
            subprocess.run(
                [*builder, f"{folder}/{name}.builder", *step],
                check=True,
                timeout=60,
                stdout=subprocess.DEVNULL,
            )
    (folder / "proxy.conf").write_text(
        f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {ports['proxy']}\nworkers = 0\n"
        f"swift_dir = {folder}\nlog_level = ERROR\nuser =\n"
        "[pipeline:main]\n"
        "pipeline = catch_errors healthcheck s3api tempauth bulk slo proxy-server\n"
        "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n"
        "[filter:catch_errors]\nuse = egg:swift#catch_errors\n"
        "[filter:healthcheck]\nuse = egg:swift#healthcheck\n"
        "[filter:s3api]\nuse = egg:swift#s3api\nlocation = us-east-1\n"
        # As many parts as S3 takes; the default is a tenth.
        "max_bucket_listing = 100\nmax_upload_part_num = 10000\n"
        "[filter:tempauth]\nuse = egg:swift#tempauth\nuser_test_tester = testing .admin\n"
        "[filter:bulk]\nuse = egg:swift#bulk\n"
        "[filter:slo]\nuse = egg:swift#slo\nmax_manifest_segments = 10000\n"
    )


@contextlib.contextmanager
def _running(
    commands: list[list[str]], folder: Path, url: str, environ: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run programs until the block ends; they are up when ``url`` answers anything."""
    log = folder / "log"
    with log.open("ab") as output, contextlib.ExitStack() as stack:
        processes = []
        for command in commands:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **(environ or {})},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            stack.callback(_end, process)
            processes.append(process)
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(httpx2.TransportError):
                if httpx2.get(url, timeout=10).status_code < 500:
                    break
            if time.monotonic() > deadline or any(
                process.poll() is not None for process in processes
            ):
                raise AssertionError(f"{commands[0][0]} did not start: {log.read_text()[-3000:]}")
            time.sleep(0.1)
        yield


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def _python_environment(name: str) -> Path:
    packages = PACKAGES[name]

    def install(folder: Path) -> None:
        # The one beside our interpreter: a new machine has none on its PATH.
        uv, python = str(Path(sys.executable).with_name("uv")), str(folder / "bin" / "python")
        _run([uv, "venv", "-q", "--python", sys.executable, str(folder)])
        _run([uv, "pip", "install", "-q", "--python", python, *packages])

    return _installed(f"{name}-{_digest(packages)}", install) / "bin"


def _node_package(name: str) -> Path:
    def install(folder: Path) -> None:
        folder.mkdir(parents=True)
        quiet = ["--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts"]
        _run(["npm", "install", *quiet, "--prefix", str(folder), name])

    return _installed(name.replace("@", "-"), install) / "node_modules" / ".bin"


def _installed(name: str, install: Callable[[Path], None]) -> Path:
    """Return the folder of a part, installing it if no run before has; one run at a time does."""
    folder = PARTS / name
    PARTS.mkdir(exist_ok=True)
    with (PARTS / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            install(folder)
            (folder / "complete").touch()
    return folder


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, timeout=600, stdout=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotInstall(f"{' '.join(command)}: {error}") from error


def _digest(packages: list[str]) -> str:
    return hashlib.sha256(" ".join(packages).encode()).hexdigest()[:8]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
