"""What our own build Jobs rely on: every one is accepted, and a Job is carried to its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from lightkube import Client

from merlin_images.builders.jobs.cluster import Cluster
from merlin_images.builders.jobs.driver import JobDriver
from merlin_images.builders.jobs.errors import BuildJobError
from merlin_images.builders.jobs.manifest import job_manifest
from merlin_images.builders.jobs.names import OWNER, OWNER_LABEL
from tests.image_jobs.platforms import Platform, all_platforms, plan
from tests.kubernetes_facts.calls import Api, Object

KANIKO = Platform("kaniko", "docker", "s3", identity=False)
NOW = "2026-01-01T00:00:00Z"


@pytest.fixture
def cluster(client: Client, namespace: str) -> Iterator[Cluster]:
    opened = Cluster(client._client.config, namespace)
    yield opened
    opened.close()


@pytest.fixture
def driver(cluster: Cluster) -> JobDriver:
    return JobDriver(cluster, look_seconds=1)


def manifest(namespace: str) -> Object:
    return job_manifest(plan(), KANIKO.options(namespace=namespace))


def test_every_build_job_is_accepted(api: Api, namespace: str) -> None:
    for platform in all_platforms():
        job = job_manifest(platform.plan(), platform.options(namespace=namespace))
        answer = api.call("POST", "jobs", job, dryRun="All")
        assert answer.status_code == 201, f"{platform.name}: {answer.text}"


def conclude(api: Api, name: str, condition: str) -> None:
    """Do what a Job controller does in the end, once there is such a Job."""
    for _ in range(200):
        answer = api.call("GET", f"jobs/{name}")
        if answer.status_code == 200:
            break
        time.sleep(0.05)
    kinds = {"Complete": ["SuccessCriteriaMet", "Complete"], "Failed": ["FailureTarget", "Failed"]}
    conditions = [
        {"type": kind, "status": "True", "reason": "Told", "lastTransitionTime": NOW}
        for kind in kinds[condition]
    ]
    status: Object = {"startTime": NOW, "conditions": conditions}
    if condition == "Complete":
        status |= {"completionTime": NOW, "succeeded": 1}
    answer = api.call(
        "PATCH",
        f"jobs/{name}/status",
        {"status": status},
        content_type="application/merge-patch+json",
    )
    assert answer.status_code == 200, answer.text


def concluding(api: Api, name: str, condition: str) -> threading.Thread:
    thread = threading.Thread(target=conclude, args=(api, name, condition))
    thread.start()
    return thread


def ignore(status: Any) -> None:
    """Nobody looks on."""


def test_a_job_is_made_watched_found_and_replaced(
    api: Api, cluster: Cluster, driver: JobDriver, namespace: str
) -> None:
    wanted = manifest(namespace)
    name = wanted["metadata"]["name"]
    thread = concluding(api, name, "Complete")
    first = driver.run(wanted, ignore)
    thread.join()
    assert (first.status.state, first.found) == ("succeeded", False)
    again = driver.run(wanted, ignore)
    assert (again.job["metadata"]["uid"], again.found) == (first.job["metadata"]["uid"], True)
    assert [job["metadata"]["name"] for job in cluster.jobs({OWNER_LABEL: OWNER})] == [name]
    assert cluster.create(wanted) is None


def test_a_failed_job_is_an_error(api: Api, driver: JobDriver, namespace: str) -> None:
    wanted = manifest(namespace)
    thread = concluding(api, wanted["metadata"]["name"], "Failed")
    with pytest.raises(BuildJobError) as caught:
        driver.run(wanted, ignore)
    thread.join()
    assert "Told" in caught.value.data["tables"]


def test_only_the_job_that_is_meant_is_deleted(
    cluster: Cluster, driver: JobDriver, namespace: str
) -> None:
    made = cluster.create(manifest(namespace))
    assert made
    other = {"metadata": {**made["metadata"], "uid": "00000000-0000-0000-0000-000000000000"}}
    cluster.delete(other)
    name = made["metadata"]["name"]
    assert cluster.job(name)
    key = made["metadata"]["annotations"]["merlin.caraml.dev/build-key"]
    assert driver.cancel(name, key)
    assert cluster.job(name) is None
    assert not driver.cancel(name, key)


def test_a_watch_of_a_forgotten_state_ends_and_a_fresh_one_does_not_miss(
    api: Api, cluster: Cluster, namespace: str
) -> None:
    made = cluster.create(manifest(namespace))
    assert made
    conclude(api, made["metadata"]["name"], "Complete")
    seen = next(iter(cluster.watch(made, 5)))
    assert seen[0] == "MODIFIED"
    assert seen[1]["status"]["succeeded"] == 1
    stale = {"metadata": {**made["metadata"], "resourceVersion": "1"}}
    for kind, _ in cluster.watch(stale, 1):
        assert kind in ("ADDED", "MODIFIED")
