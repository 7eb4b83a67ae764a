from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

IDLE_BYTES = 200 * 2**20
START_CPU_SECONDS = 3


def test_it_prints_four_lines_and_answers(
    start: Callable[..., Any], tmp_path: Path, environ: dict[str, str]
) -> None:
    up = start()
    assert str(tmp_path / "data") in up.lines[1]
    assert up.lines[2].startswith("Signed in:")
    assert up.lines[3].startswith("Next: merlin ")
    assert "<h1>Merlin</h1>" in httpx2.get(up.url).text
    assert httpx2.get(f"{up.url}/v1/environments").json()[0]["name"] == "local"
    assert httpx2.get(f"{up.url}/v2/").status_code == 200
    assert httpx2.get(f"{up.url}/api/2.0/mlflow/experiments/search?max_results=1").is_success
    profile = tomllib.loads(Path(environ["MERLIN_CONFIG"]).read_text())
    assert profile == {"url": up.url}
    assert up.stop() == 0
    out, err = up.process.communicate()
    assert (out, err) == ("", "")
    events = [
        json.loads(line)["event"]
        for line in (tmp_path / "data/logs/server.log").read_text().splitlines()
    ]
    assert "request" in events


def test_it_starts_quickly_and_stays_small(start: Callable[..., Any]) -> None:
    start().stop()  # the first start compiles the code and makes the tables
    up = start()
    assert httpx2.get(f"{up.url}/v1/projects").json() == []
    # Processor time: what else runs on this machine is not counted.
    assert up.cpu_seconds() < START_CPU_SECONDS
    assert httpx2.get(up.url).is_success
    assert up.resident_bytes() < IDLE_BYTES


def test_json_is_one_object(start: Callable[..., Any], tmp_path: Path) -> None:
    up = start("--output", "json", lines=1)
    facts = json.loads(up.lines[0])
    assert set(facts) == {"url", "data_dir", "signed_in", "next"}
    assert httpx2.get(f"{facts['url']}/v1/internal/ready").is_success
    assert up.stop(signal.SIGINT) == 0


def test_what_was_made_is_there_after_a_restart(start: Callable[..., Any]) -> None:
    up = start()
    httpx2.post(f"{up.url}/v1/projects", json={"name": "fruit"}).raise_for_status()
    up.process.kill()
    up.process.wait()
    again = start()
    assert [each["name"] for each in httpx2.get(f"{again.url}/v1/projects").json()] == ["fruit"]


def test_a_second_server_on_the_folder_says_where_the_first_answers(
    start: Callable[..., Any], fail: Callable[..., Any], tmp_path: Path
) -> None:
    up = start()
    second = fail("--port", "0", "--data-dir", str(tmp_path / "data"))
    assert second.returncode == 73
    assert up.url in second.stderr
    assert "Traceback" not in second.stderr
    assert httpx2.get(f"{up.url}/v1/internal/live").is_success


def test_a_port_in_use_is_named_with_another(fail: Callable[..., Any], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = fail("--port", str(port), "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 73
    assert f"Port {port}" in done.stderr
    assert "--port" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "content", "part"),
    [
        (("--host", "203.0.113.1"), "", "203.0.113.1"),
        (("--host", "no such host"), "", "no such host"),
        ((), "porrt: 1", "porrt"),
        ((), "limits: {request_bytes: many}", "limits.request_bytes"),
        ((), "- a list", "mapping"),
        ((), "a: [", "merlin.yaml"),
        ((), "environments: [{name: a}]", "is_default"),
        ((), "registry: {type: docker}", "registry.prefix"),
        ((), "environments: [{name: a, is_default: true, deployer: magic}]", "magic"),
        ((), "artifacts_url: 's3://'", "s3://bucket/folder"),
    ],
)
def test_settings_that_cannot_work_are_named(
    fail: Callable[..., Any], tmp_path: Path, arguments: tuple[str, ...], content: str, part: str
) -> None:
    file = tmp_path / "merlin.yaml"
    file.write_text(content)
    done = fail(
        "--port", "0", "--data-dir", str(tmp_path / "data"), "--config", str(file), *arguments
    )
    assert done.returncode == 65, done.stderr
    assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_used_is_named(fail: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = fail("--port", "0", "--data-dir", str(tmp_path / "file" / "data"))
    assert done.returncode == 65
    assert "file/data" in done.stderr.replace("\n", "")


def test_the_environment_wins_over_files_and_options_over_both(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("limits: {request_bytes: 1000, predict_bytes: 1}\nhost: 203.0.113.9\n")
    second.write_text("limits: {request_bytes: 2000}\n")
    up = start(
        *("--config", str(first), "--config", str(second), "--host", "127.0.0.1"),
        MERLIN_LIMITS__REQUEST_BYTES="3000",
    )
    for size, status in ((2900, 400), (3100, 413)):
        answer = httpx2.post(f"{up.url}/v1/projects", content=b"x" * size)
        assert answer.status_code == status


def test_token_mode(start: Callable[..., Any], tmp_path: Path, environ: dict[str, str]) -> None:
    up = start(MERLIN_AUTH__MODE="token")
    assert httpx2.get(f"{up.url}/v1/projects").status_code == 401
    profile = Path(environ["MERLIN_CONFIG"])
    token = tomllib.loads(profile.read_text())["token"]
    assert stat.S_IMODE(profile.stat().st_mode) == 0o600
    headers = {"Authorization": f"Bearer {token}"}
    assert httpx2.get(f"{up.url}/v1/projects", headers=headers).json() == []
    up.stop()
    kept = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert not any(token.encode() in path.read_bytes() for path in kept)
    assert token not in "".join(up.lines)


def test_a_request_in_flight_is_answered_before_the_end(start: Callable[..., Any]) -> None:
    up = start()
    host, port = up.url.removeprefix("http://").split(":")
    body = b'{"name": "fruit"}'
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = (
            f"POST /v1/projects HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body[:5])
        ended = threading.Thread(target=up.stop)
        ended.start()
        while True:
            try:
                socket.create_connection((host, int(port)), timeout=5).close()
            except OSError:
                break  # it has stopped listening
        connection.sendall(body[5:])
        assert connection.recv(100).startswith(b"HTTP/1.1 201")
    ended.join(60)
    assert up.process.returncode == 0


def test_no_process_is_left_behind(start: Callable[..., Any], tmp_path: Path) -> None:
    up = start()
    assert up.stop() == 0
    listed = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True)
    assert str(tmp_path / "data") not in listed.stdout
    assert not Path(f"/proc/{up.process.pid}").exists()
