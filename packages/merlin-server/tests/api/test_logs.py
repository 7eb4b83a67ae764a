from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from lightkube import KubeConfig

from merlin.artifacts.memory import MemoryStore
from merlin.progress import Silent
from merlin_images.builders.jobs.cluster import Cluster
from merlin_images.builders.jobs.driver import JobDriver
from merlin_images.builders.jobs.manifest import job_manifest
from merlin_server.deployers.port import RevisionSpec
from merlin_server.images.store import ImageRow
from merlin_server.logs.errors import TooManyReaders
from merlin_server.logs.following import Followers
from merlin_server.logs.service import LogQuery
from tests.fake_kubernetes import FakeCluster
from tests.fake_kubernetes.outcomes import Exits
from tests.image_jobs.platforms import Platform, plan


def _query(made: Any, **other: Any) -> dict[str, Any]:
    return {
        "cluster": "local",
        "namespace": "fruit",
        "component_type": "model",
        "model_id": made.model_id,
        "version_id": made.version_id,
        **other,
    }


@pytest.mark.parametrize("missing", ["cluster", "namespace", "component_type", "version_id"])
def test_required_keys(client: TestClient, made: Any, missing: str) -> None:
    query = {key: value for key, value in _query(made).items() if key != missing}
    answer = client.get("/v1/logs", params=query)
    assert (answer.status_code, answer.json()["error"]) == (400, f"{missing} is required.")


@pytest.mark.parametrize(
    "other",
    [
        {"namespace": "vegetables"},
        {"cluster": "moon"},
        {"model_id": 99},
        {"version_id": 99},
        {"component_type": "kitchen"},
    ],
)
def test_only_what_belongs_to_the_model_is_read(
    client: TestClient, made: Any, other: dict[str, Any]
) -> None:
    made.deploy()
    assert client.get("/v1/logs", params=_query(made, **other)).status_code == 404


def test_lines_of_a_revision(client: TestClient, server: Any, made: Any) -> None:
    endpoint = made.deploy()
    deployer = server.services.logs._deployers["process"]
    deployer.apply(_spec(f"{endpoint['id']}.r1"), Silent())
    answer = client.get("/v1/logs", params=_query(made))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    lines = answer.text.splitlines()
    assert lines
    assert lines == [line.text for line in deployer.logs(f"{endpoint['id']}.r1")]
    stamped = client.get("/v1/logs", params=_query(made, timestamps=True, prefix="container"))
    (line,) = deployer.logs(f"{endpoint['id']}.r1", tail=1)
    last = stamped.text.splitlines()[-1]
    assert last == f"[{line.container}] {line.time.isoformat()} {line.text}"
    cut = client.get("/v1/logs", params=_query(made, limit_bytes=3))
    assert cut.content == answer.content[:3]
    by_name = _query(made, model_name="iris", project_name="fruit")
    del by_name["model_id"]
    assert client.get("/v1/logs", params=by_name).text == answer.text


def test_lines_of_a_build(client: TestClient, server: Any, made: Any) -> None:
    query = _query(made, component_type="image_builder")
    assert client.get("/v1/logs", params=query).status_code == 404
    with server.database.write() as session:
        steps = [
            {"name": "Lock", "seconds": 0.5, "detail": "12 wheels", "failed": False},
            {"name": "Push", "detail": "", "failed": False},
        ]
        session.add(
            ImageRow(
                model_id=made.model_id,
                version_id=made.version_id,
                state="failed",
                steps=steps,
                message="The registry is away.",
            )
        )
    for follow in (False, True):
        text = client.get("/v1/logs", params={**query, "follow": follow}).text
        assert text == "Lock done in 0.5 s: 12 wheels\nThe registry is away.\n"


def test_a_stopping_server_ends_what_is_followed() -> None:
    release = threading.Event()

    def endless() -> Iterator[bytes]:
        yield b"first\n"
        release.wait(30)

    async def follow() -> list[bytes]:
        followers = Followers(limit=1)
        stream = followers.stream(endless(), limit_bytes=None)
        seen = [await anext(stream)]
        with pytest.raises(TooManyReaders):
            followers.stream(endless(), limit_bytes=None)
        followers.stop()
        seen += [chunk async for chunk in stream]
        release.set()
        return seen

    assert asyncio.run(asyncio.wait_for(follow(), 10)) == [b"first\n"]


def test_each_event_loop_follows_for_itself() -> None:
    """A test client has a loop for each request; a slow one once found the first one's event."""
    followers = Followers()
    for _ in range(2):
        late = threading.Event()

        def slow(late: threading.Event = late) -> Iterator[bytes]:
            late.wait(30)
            yield b"late\n"

        async def follow(late: threading.Event = late, read: Any = slow) -> list[bytes]:
            stream = followers.stream(read(), limit_bytes=None)
            first = asyncio.ensure_future(anext(stream))
            # The reader waits for the line, and the answer for the reader, before there is one.
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(late.set)
            return [await first, *[chunk async for chunk in stream]]

        assert asyncio.run(asyncio.wait_for(follow(), 10)) == [b"late\n"]


def _spec(name: str) -> RevisionSpec:
    return RevisionSpec(
        name=name,
        project="fruit",
        model="iris",
        version="1",
        full_name="iris-1",
        model_type="pyfunc",
        image="host/fruit/iris@sha256:" + "0" * 64,
        python="3.11",
        lock_key="",
        lock_text="",
        store=MemoryStore(),
        folder="",
    )


def test_what_a_build_job_writes_is_told_before_its_steps(
    client: TestClient, server: Any, made: Any
) -> None:
    with server.services.database.write() as session:
        step = {"name": "Run the Job", "seconds": 3, "detail": "", "failed": False}
        session.add(
            ImageRow(
                model_id=made.model_id, version_id=made.version_id, state="succeeded", steps=[step]
            )
        )
    job = job_manifest(plan(), Platform("kaniko", "docker", "none", identity=True).options())
    with FakeCluster() as cluster:
        cluster.create_namespace("mlp")
        config = KubeConfig.from_dict(cluster.kubeconfig()).get()
        assert config
        jobs = Cluster(config, "mlp", trust_env=False)
        name, driver = job["metadata"]["name"], JobDriver(jobs)
        server.services.logs._build_log = lambda model_id, version_id, told, *, follow: driver.log(
            name, told, follow=follow
        )
        cluster.kubelet.play("build", Exits(log="RUN uv pip install\n"))
        jobs.create(job)
        cluster.settle()
        query = _query(made, component_type="image_builder", prefix="container")
        lines = client.get("/v1/logs", params=query).text.splitlines()
        assert lines[0] == "[build] RUN uv pip install"
        assert lines[1].startswith("[image-builder] Run the Job done in 3 s")
        # A cluster that cannot be read takes nothing else away.
        cluster.access.revoke("admin-token")
        asked = LogQuery(
            "local",
            "fruit",
            "image_builder",
            model_id=made.model_id,
            version_id=made.version_id,
        )
        unread, last = server.services.logs.read(asked)
        assert unread.text.startswith("The build's log cannot be read: ")
        assert last.text == "Run the Job done in 3 s"
        jobs.close()
