"""Downloading and uploading artifacts beside `mlflow artifacts` and boto3: one S3 service, one run.

    make bench-artifacts
    python -m benchmarks.artifacts [--rounds 3] [--server swift|moto] [--megabytes 2000]
                                   [--large 20] [--small 2000] [--only TITLE]

A tree of large files and one of many small files lie in one bucket. Each round every client fetches
each tree into a fresh folder and sends one, in turn, so that a slow minute hits all. The boto3
program is what people write: a paginator and `download_file`, whose transfer manager fetches large
files in parts. Every client is a process of its own, its start included; what it fetched is
compared with what was stored. CPU seconds and peak memory are the client's, as the kernel counts.

The server runs on the same machine and is written in Python: with Swift, a real S3 service that
checks signatures and keeps objects on disk, it is what limits everybody, so look at the CPU seconds
too. moto answers faster, but reads a whole object for every range.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from merlin.artifacts.folders import upload_folder
from merlin.artifacts.s3 import open_s3
from tests import peers
from tests.blob_servers import Service, moto, swift

SERVERS = {"swift": swift, "moto": moto}
BUCKET = "bench"
OURS = """
import sys
from merlin import artifacts
way, url, folder = sys.argv[1:]
artifacts.download(url, folder) if way == "down" else artifacts.upload(folder, url)
"""
BOTO3 = """
import os, sys
import boto3
way, url, folder = sys.argv[1:]
bucket, _, prefix = url.removeprefix("s3://").partition("/")
client = boto3.client("s3")
if way == "down":
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix + "/")
    for page in pages:
        for item in page.get("Contents", []):
            path = os.path.join(folder, item["Key"][len(prefix) + 1:])
            os.makedirs(os.path.dirname(path), exist_ok=True)
            client.download_file(bucket, item["Key"], path)
else:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            client.upload_file(path, bucket, prefix + "/" + os.path.relpath(path, folder))
"""

MLFLOW_UPLOAD = """
import sys
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
get_artifact_repository(sys.argv[1]).log_artifacts(sys.argv[2])
"""


@dataclass
class Cost:
    """What one client took, over all rounds: seconds, CPU seconds, the most memory in KiB."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    memory: int = 0


Client = Callable[[str, str, Path], list[str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server", choices=sorted(SERVERS), default="swift")
    parser.add_argument("--megabytes", type=int, default=2000, help="size of the large tree")
    parser.add_argument("--large", type=int, default=20, help="number of large files")
    parser.add_argument("--small", type=int, default=2000, help="number of files of 4 kB")
    parser.add_argument("--only", default="", help="only cases whose title contains this")
    options = parser.parse_args()
    large, small = f"{options.megabytes} MB, {options.large} files", f"{options.small} small files"
    cases = [
        ("down", f"download {large}", options.large, options.megabytes * 10**6 // options.large),
        ("down", f"download {small}", options.small, 4096),
        ("up", f"upload {small}", options.small, 4096),
    ]
    theirs = peers.environment_with(["boto3", peers.MLFLOW])
    clients: dict[str, Client] = {
        "merlin": lambda way, url, folder: [sys.executable, "-c", OURS, way, url, str(folder)],
        "mlflow": lambda way, url, folder: [str(theirs), *_mlflow(way, url, folder)],
        "boto3": lambda way, url, folder: [str(theirs), "-c", BOTO3, way, url, str(folder)],
    }
    results = {}
    for way, title, count, size in cases:
        if options.only in title:
            results[title] = _compare(
                clients, options, way=way, title=title, count=count, size=size
            )
    _print(results, options)


def _compare(
    clients: Mapping[str, Client],
    options: argparse.Namespace,
    *,
    way: str,
    title: str,
    count: int,
    size: int,
) -> dict[str, Cost]:
    costs = {name: Cost() for name in clients}
    with tempfile.TemporaryDirectory() as folder:
        tree, target = Path(folder, "tree"), Path(folder, "target")
        _write_tree(tree, count, size)
        Path(folder, "server").mkdir()
        with SERVERS[options.server](Path(folder, "server")) as service:
            service.make_bucket(BUCKET)
            store = open_s3(f"s3://{BUCKET}", service.environ)
            upload_folder(tree, store, "tree")
            for number in range(options.rounds):
                for name, command in clients.items():
                    if way == "down":
                        target.mkdir()
                        _measure(command(way, f"s3://{BUCKET}/tree", target), service, costs[name])
                        _check(tree, target)
                        shutil.rmtree(target)
                    else:
                        place = f"{name}{number}"
                        _measure(command(way, f"s3://{BUCKET}/{place}", tree), service, costs[name])
                        if len(list(store.list(place))) != count:
                            sys.exit(f"{name} did not send everything")
                took = ", ".join(f"{name} {cost.seconds[-1]:.2f} s" for name, cost in costs.items())
                print(f"{title}, round {number + 1}: {took}", file=sys.stderr)
    return costs


def _mlflow(way: str, url: str, folder: Path) -> list[str]:
    if way == "up":  # Its command sends to runs only; this is what the command calls.
        return ["-c", MLFLOW_UPLOAD, url, str(folder)]
    command = ["-m", "mlflow", "artifacts", "download"]
    return [*command, "--artifact-uri", url, "--dst-path", str(folder)]


def _measure(command: list[str], service: Service, cost: Cost) -> None:
    environ = {
        **os.environ,
        **peers.QUIET_MLFLOW,
        **service.environ,
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_S3_ENDPOINT_URL": service.url,
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
    began = time.perf_counter()
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as client:
        _, status, usage = os.wait4(client.pid, 0)
        client.returncode = os.waitstatus_to_exitcode(status)
    if client.returncode:
        sys.exit(f"{command[:3]} failed")
    cost.seconds.append(time.perf_counter() - began)
    cost.cpu.append(usage.ru_utime + usage.ru_stime)
    cost.memory = max(cost.memory, usage.ru_maxrss)


def _write_tree(folder: Path, count: int, size: int) -> None:
    content = random.Random(7).randbytes(size)
    for number in range(count):
        file = folder / f"{number % 10}" / f"{number}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def _check(tree: Path, target: Path) -> None:
    """Whatever a client puts around it, the same files must be there, byte for byte."""
    found = {file.name: file for file in target.rglob("*.bin")}
    files = list(tree.rglob("*.bin"))
    if len(found) != len(files):
        sys.exit(f"{len(found)} files came, of {len(files)}")
    for file in random.Random(8).sample(files, min(20, len(files))):
        if found[file.name].read_bytes() != file.read_bytes():
            sys.exit(f"{file.name} came wrong")


def _print(results: Mapping[str, Mapping[str, Cost]], options: argparse.Namespace) -> None:
    table = Table(title=f"S3 by {options.server}; medians of {options.rounds} rounds")
    for heading in ("case", "client", "time", "/ merlin", "CPU", "CPU / merlin", "peak memory"):
        table.add_column(heading, justify="left" if heading in {"case", "client"} else "right")
    for title, costs in results.items():
        ours = costs["merlin"]
        for name, cost in costs.items():
            table.add_row(
                title if name == "merlin" else "",
                name,
                f"{statistics.median(cost.seconds):.2f} s",
                f"{_ratio(cost.seconds, ours.seconds):.2f}",
                f"{statistics.median(cost.cpu):.2f} s",
                f"{_ratio(cost.cpu, ours.cpu):.2f}",
                f"{cost.memory / 1024:.0f} MiB",
            )
    Console().print(table)


def _ratio(theirs: list[float], ours: list[float]) -> float:
    return statistics.median(b / a for a, b in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    main()
