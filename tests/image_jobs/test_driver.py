"""Carrying a Job to its end whatever the cluster does meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from lightkube import ApiError, KubeConfig
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Pod

from merlin.errors import Kind
from merlin_images.builders.jobs.cluster import Cluster
from merlin_images.builders.jobs.driver import Ended, JobDriver
from merlin_images.builders.jobs.errors import (
    BuildInterrupted,
    BuildJobError,
    BuildJobFailed,
    BuildJobOverdue,
    BuildJobTooSmall,
    BuildRefused,
    ClusterDenied,
    ClusterUnavailable,
    JobRefused,
)
from merlin_images.builders.jobs.manifest import job_manifest
from merlin_images.builders.jobs.status import JobStatus, tables
from tests.fake_kubernetes import FakeCluster
from tests.fake_kubernetes.outcomes import (
    CannotPull,
    Evicted,
    Exits,
    Hangs,
    NodeLost,
    Unschedulable,
    out_of_memory,
)
from tests.image_jobs.conftest import NAMESPACE, new_driver
from tests.image_jobs.platforms import Platform, plan

DIGEST = f"sha256:{'d' * 64}"
PUSHED = Exits(message=DIGEST)
KANIKO = Platform("kaniko", "docker", "none", identity=True)
PLAN = plan()
NAME = PLAN.name


def manifest(**options: Any) -> dict[str, Any]:
    return job_manifest(PLAN, KANIKO.options(**options))


class Killed(BaseException):
    """The server died here."""


def ignore(status: JobStatus | None) -> None:
    """Nobody looks on."""


def run(fake: FakeCluster, driver: JobDriver, **options: Any) -> Ended:
    with fake.acting():
        return driver.run(manifest(**options), ignore)


def failed(fake: FakeCluster, driver: JobDriver, **options: Any) -> BuildJobError:
    with pytest.raises(BuildJobError) as caught:
        run(fake, driver, **options)
    assert caught.value.hint
    return caught.value


def made_jobs(fake: FakeCluster) -> int:
    """How many Jobs were ever made: each has an event of the Pod it got."""
    return sum(call == ("create", "jobs") for call in fake.faults.seen)


def test_a_job_is_carried_to_its_end(fake: FakeCluster, driver: JobDriver) -> None:
    fake.kubelet.play("push", PUSHED)
    ended = run(fake, driver)
    assert (ended.status.state, ended.status.digest, ended.found) == ("succeeded", DIGEST, False)
    assert [step.name for step in ended.status.steps] == ["fetch", "build", "push"]


def test_a_try_that_failed_is_not_the_jobs_failure(fake: FakeCluster, driver: JobDriver) -> None:
    """Merlin gave up at the first (W20)."""
    fake.kubelet.play("build", Exits(1), Exits(1), Exits())
    fake.kubelet.play("push", PUSHED)
    ended = run(fake, driver)
    assert (ended.status.digest, ended.status.failures) == (DIGEST, 2)


def test_a_job_that_ended_before_is_found(
    fake: FakeCluster, connect: Callable[[], Cluster]
) -> None:
    fake.kubelet.play("push", PUSHED)
    run(fake, new_driver(connect()))
    again = run(fake, new_driver(connect()))
    assert (again.found, again.status.digest) == (True, DIGEST)
    assert made_jobs(fake) == 1


def test_a_job_whose_image_has_gone_is_replaced(fake: FakeCluster, driver: JobDriver) -> None:
    fake.kubelet.play("push", PUSHED)
    first = run(fake, driver)
    with fake.acting():
        uid = first.job["metadata"]["uid"]
        second = driver.run(manifest(), ignore, instead_of=uid)
    assert second.job["metadata"]["uid"] != uid
    assert (second.found, second.status.digest) == (False, DIGEST)


def test_a_failed_job_is_replaced_with_its_pods(fake: FakeCluster, driver: JobDriver) -> None:
    """Merlin left the old Pods, and told of them (W22)."""
    fake.kubelet.play("build", Exits(1))
    failed(fake, driver, retries=0)
    fake.kubelet.play("build", Exits())
    fake.kubelet.play("push", PUSHED)
    assert run(fake, driver).status.digest == DIGEST
    with fake.client() as client:
        assert len(list(client.list(Pod, namespace=NAMESPACE))) == 1


def test_a_foreign_job_of_our_name_is_left_alone(fake: FakeCluster, driver: JobDriver) -> None:
    other = manifest()
    other["metadata"]["annotations"] = {}
    with fake.client() as client:
        client.create(Job.from_dict(other))
        error = failed(fake, driver)
        assert isinstance(error, JobRefused)
        assert client.get(Job, NAME, namespace=NAMESPACE).metadata


@pytest.mark.parametrize("moment", range(1, 12))
def test_a_killed_server_is_followed_by_one_that_adopts_its_job(
    fake: FakeCluster, connect: Callable[[], Cluster], moment: int
) -> None:
    """The server dies at its nth request; what it asked for last was carried out."""
    fake.kubelet.play("push", PUSHED)
    first = new_driver(connect())
    # Faults are taken in order: so many requests pass, then the answer to one is lost.
    fake.faults.before(lambda: None, times=moment)
    fake.faults.lose_answer(times=10_000)

    def told(status: JobStatus | None) -> None:
        if status is None:
            raise Killed

    with fake.acting():
        try:
            first.run(manifest(), told)
        except Killed:
            fake.faults._plan.clear()
        fake.faults._plan.clear()
        ended = new_driver(connect()).run(manifest(), ignore)
    assert ended.status.digest == DIGEST
    assert made_jobs(fake) == 1


def test_two_replicas_share_a_job(fake: FakeCluster, connect: Callable[[], Cluster]) -> None:
    fake.kubelet.play("push", PUSHED)
    drivers = [new_driver(connect()) for _ in range(4)]
    with fake.acting(), ThreadPoolExecutor(4) as threads:
        ended = list(threads.map(lambda driver: driver.run(manifest(), ignore), drivers))
    assert {each.status.digest for each in ended} == {DIGEST}
    assert len({each.job["metadata"]["uid"] for each in ended}) == 1


def test_replicas_of_a_failing_job_all_hear_of_it(
    fake: FakeCluster, connect: Callable[[], Cluster]
) -> None:
    fake.kubelet.play("build", Exits(1, log="no\n"))

    def fails(driver: JobDriver) -> str:
        with pytest.raises(BuildJobError) as caught:
            driver.run(manifest(retries=0), ignore)
        return str(caught.value.data["step"])

    drivers = [new_driver(connect()) for _ in range(3)]
    with fake.acting(), ThreadPoolExecutor(3) as threads:
        assert set(threads.map(fails, drivers)) == {"build"}


def test_a_job_deleted_behind_our_back_is_made_again(fake: FakeCluster, driver: JobDriver) -> None:
    fake.kubelet.play("build", Hangs())
    fake.kubelet.play("push", PUSHED)
    uids: list[str] = []

    def told(status: JobStatus | None) -> None:
        if status and status.running == "build" and len(uids) < 2:
            with fake.client() as client:
                uids.append(client.get(Job, NAME, namespace=NAMESPACE).metadata.uid)
                client.delete(Job, NAME, namespace=NAMESPACE)
                if len(uids) == 2:
                    fake.kubelet.play("build", Exits())

    with fake.acting():
        ended = driver.run(manifest(), told)
    assert ended.status.digest == DIGEST
    assert len({*uids, ended.job["metadata"]["uid"]}) == 3


def test_a_job_that_is_deleted_again_and_again_is_given_up(
    fake: FakeCluster, driver: JobDriver
) -> None:
    fake.kubelet.play("build", Hangs())

    def told(status: JobStatus | None) -> None:
        if status and status.running == "build":
            with fake.client() as client, suppress(ApiError):
                client.delete(Job, NAME, namespace=NAMESPACE)

    with fake.acting(), pytest.raises(BuildInterrupted, match="was deleted 4 times"):
        driver.run(manifest(), told)


@pytest.mark.parametrize("seconds", [0, 0.05])
def test_watches_may_be_cut_all_the_time(
    fake: FakeCluster, driver: JobDriver, seconds: float
) -> None:
    fake.faults.seconds_a_watch = seconds
    fake.kubelet.play("push", PUSHED)
    assert run(fake, driver).status.digest == DIGEST


def test_the_history_may_be_forgotten_all_the_time(fake: FakeCluster, driver: JobDriver) -> None:
    """Every watch is answered 410 Gone, as an event or as a status."""
    fake.faults.before(fake.compact, verb="watch", times=10_000)
    fake.kubelet.play("push", PUSHED)
    assert run(fake, driver).status.digest == DIGEST


def test_the_api_server_may_restart(fake: FakeCluster, driver: JobDriver) -> None:
    fake.kubelet.play("build", Hangs())
    fake.kubelet.play("push", PUSHED)
    restarts: list[str] = []

    def told(status: JobStatus | None) -> None:
        if status and status.running == "build" and len(restarts) < 3:
            restarts.append(status.pod)
            fake.restart()
        elif len(restarts) == 3:
            fake.kubelet.release("build", Exits())

    with fake.acting():
        assert driver.run(manifest(), told).status.digest == DIGEST
    assert len(set(restarts)) == 1


@pytest.mark.parametrize("code", [409, 429, 500, 503, 504])
def test_refusals_that_pass_by_are_waited_for(
    fake: FakeCluster, driver: JobDriver, code: int
) -> None:
    fake.kubelet.play("push", PUSHED)
    for verb in ("get", "create", "list", "watch"):
        if code != 409 or verb == "create":
            fake.faults.answer(code, verb=verb, times=2)
    assert run(fake, driver).status.digest == DIGEST
    assert len(list_jobs(fake)) == 1


@pytest.mark.parametrize("verb", ["get", "create", "list", "watch"])
def test_lost_requests_and_answers(fake: FakeCluster, driver: JobDriver, verb: str) -> None:
    fake.kubelet.play("push", PUSHED)
    fake.faults.lose_answer(verb=verb, times=2)
    fake.faults.drop(verb=verb, times=2)
    assert run(fake, driver).status.digest == DIGEST
    assert len(list_jobs(fake)) == 1


def test_a_cluster_that_stays_away_is_an_error_and_the_job_goes_on(
    fake: FakeCluster, driver: JobDriver
) -> None:
    fake.kubelet.play("push", PUSHED)
    fake.faults.answer(503, verb="list", resource="pods", times=10_000)
    error = failed(fake, driver)
    assert isinstance(error, ClusterUnavailable)
    assert error.kind is Kind.UNAVAILABLE
    fake.faults._plan.clear()
    assert run(fake, driver).status.digest == DIGEST
    assert made_jobs(fake) == 1


def test_what_onlookers_raise_leaves_the_job_going(fake: FakeCluster, driver: JobDriver) -> None:
    fake.kubelet.play("build", Hangs())

    def cancelled(status: JobStatus | None) -> None:
        raise Killed

    with fake.acting(), pytest.raises(Killed):
        driver.run(manifest(), cancelled)
    assert len(list_jobs(fake)) == 1


def test_cancelling_takes_job_and_pods_away(
    fake: FakeCluster, driver: JobDriver, connect: Callable[[], Cluster]
) -> None:
    fake.kubelet.play("build", Hangs())
    with fake.acting():
        with pytest.raises(Killed):
            driver.run(manifest(), _killed_at("build"))
        other = new_driver(connect())
        assert not other.cancel(NAME, "another key")
        assert len(list_jobs(fake)) == 1
        assert other.cancel(NAME, PLAN.key)
        assert not other.cancel(NAME, PLAN.key)
    fake.settle()
    assert list_jobs(fake) == []
    with fake.client() as client:
        assert list(client.list(Pod, namespace=NAMESPACE)) == []


def test_a_namespace_that_is_not_there_is_named(fake: FakeCluster, connect: Any) -> None:
    cluster = connect()
    cluster.namespace = "elsewhere"
    error = failed(fake, new_driver(cluster), namespace="elsewhere")
    assert isinstance(error, JobRefused)
    assert "elsewhere" in str(error)


@pytest.mark.parametrize("code", [401, 403])
def test_refused_credentials_are_an_error_at_once(
    fake: FakeCluster, connect: Any, code: int
) -> None:
    token = "secret-canary-token"
    if code == 403:
        fake.token(token, [])
    config = KubeConfig.from_dict(fake.kubeconfig(token=token)).get()
    assert config
    cluster = Cluster(config, NAMESPACE, trust_env=False)
    try:
        error = failed(fake, new_driver(cluster))
    finally:
        cluster.close()
    assert isinstance(error, ClusterDenied)
    assert "canary" not in f"{error}{error.to_dict()}".replace(f"default:{token}", "")


def test_a_job_that_the_cluster_does_not_accept(fake: FakeCluster, driver: JobDriver) -> None:
    patch = {"spec": {"volumes": [{"name": "Bad_Name", "emptyDir": {}}]}}
    error = failed(fake, driver, pod_template=patch)
    assert isinstance(error, JobRefused)
    assert "Bad_Name" in str(error)


def _killed_at(step: str) -> Callable[[JobStatus | None], None]:
    def told(status: JobStatus | None) -> None:
        if status and status.running == step:
            raise Killed

    return told


def list_jobs(fake: FakeCluster) -> list[Any]:
    with fake.client() as client:
        return list(client.list(Job, namespace=NAMESPACE))


class TestTheCulprit:
    def test_of_our_own_tool(self, fake: FakeCluster, driver: JobDriver) -> None:
        told = '{"error": "There is no package nope on the index.", "code": "requirement_not_found"'
        log = f'resolving\n{told}, "hint": "Check the name.", "package": "nope"}}\n'
        fake.kubelet.play("fetch", Exits(65, log=log))
        error = failed(fake, driver)
        assert isinstance(error, BuildRefused)
        assert error.message == "The step fetch failed: There is no package nope on the index."
        assert error.hint == "Check the name."
        assert (error.data["cause"], error.data["requirement"]) == ("requirement_not_found", "nope")
        assert (error.data["step"], error.data["exit_code"]) == ("fetch", 65)

    def test_is_tried_again_where_it_may_pass(self, fake: FakeCluster, driver: JobDriver) -> None:
        told = '{"error": "The registry is away.", "code": "registry_unavailable"}\n'
        fake.kubelet.play("push", Exits(69, log=told))
        error = failed(fake, driver, retries=1)
        assert isinstance(error, BuildInterrupted)
        assert error.kind is Kind.UNAVAILABLE

    def test_of_kaniko(self, fake: FakeCluster, driver: JobDriver) -> None:
        log = (
            "INFO[0001] COPY requirements.txt ./\n"
            "INFO[0002] RUN uv pip install --requirements=requirements.txt\n"
            "  x No solution found when resolving dependencies:\n"
            "  Because nope was not found in the package registry and you require nope, we can"
            " conclude that your requirements are unsatisfiable.\n"
            "error building image: error building stage: failed to execute command: exit status 1\n"
        )
        fake.kubelet.play("build", Exits(1, log=log))
        error = failed(fake, driver, retries=0)
        assert isinstance(error, BuildRefused)
        assert error.data["requirement"] == "nope"
        assert error.data["instruction"].startswith("RUN uv pip install")

    def test_of_buildkit(self, fake: FakeCluster, driver: JobDriver) -> None:
        log = (
            "#9 1.2 ERROR: No matching distribution found for torch==99\n"
            "Dockerfile:12\n--------------------\n"
            "  10 |     COPY x y\n  11 |     \n  12 | >>> RUN pip install -r requirements.txt\n"
            "--------------------\nerror: failed to solve: process did not complete\n"
        )
        fake.kubelet.play("build", Exits(1, log=log))
        error = failed(fake, driver, retries=0)
        assert error.message == (
            "The step build failed: Line 12 of the Dockerfile: RUN pip install -r requirements.txt"
            " failed because of torch==99."
        )
        assert (error.data["line"], error.data["requirement"]) == (12, "torch==99")

    def test_of_a_log_that_says_nothing(self, fake: FakeCluster, driver: JobDriver) -> None:
        fake.kubelet.play("build", Exits(3, log="boom\n"))
        error = failed(fake, driver, retries=0)
        assert isinstance(error, BuildJobFailed)
        assert error.message == "The step build ended with exit code 3: boom."

    def test_out_of_memory_is_not_tried_again(self, fake: FakeCluster, driver: JobDriver) -> None:
        fake.kubelet.play("build", out_of_memory("half way\n"))
        error = failed(fake, driver, retries=5)
        assert isinstance(error, BuildJobTooSmall)
        assert (error.data["reason"], error.data["exit_code"]) == ("OOMKilled", 137)
        assert error.data["culprits"][0]["last_lines"] == ["half way"]
        with fake.client() as client:
            assert len(list(client.list(Pod, namespace=NAMESPACE))) == 1

    def test_an_image_that_cannot_be_pulled(self, fake: FakeCluster, driver: JobDriver) -> None:
        fake.kubelet.play("build", CannotPull("manifest unknown"))
        error = overdue(
            fake, driver, lambda status: any(s.reason == "ImagePullBackOff" for s in status.steps)
        )
        assert "build cannot start, ImagePullBackOff" in error.message
        assert "manifest unknown" in error.message

    def test_a_pod_that_finds_no_node(self, fake: FakeCluster, driver: JobDriver) -> None:
        fake.kubelet.play_pods(Unschedulable("0/3 nodes are available: 3 Insufficient memory."))
        error = overdue(fake, driver, lambda status: status.pod_reason == "Unschedulable")
        assert "Unschedulable: 0/3 nodes are available: 3 Insufficient memory." in error.message

    def test_a_step_that_hangs(self, fake: FakeCluster, driver: JobDriver) -> None:
        fake.kubelet.play("build", Hangs())
        error = overdue(fake, driver, lambda status: status.running == "build")
        assert error.message == "The Job did not end before its deadline, in the step build."

    @pytest.mark.parametrize("outcome", [Evicted(), NodeLost()])
    def test_a_node_that_goes_away_costs_no_try(
        self, fake: FakeCluster, driver: JobDriver, outcome: Any
    ) -> None:
        fake.kubelet.play_pods(outcome, outcome, None)
        fake.kubelet.play("push", PUSHED)
        assert run(fake, driver, retries=0).status.digest == DIGEST

    def test_secrets_in_a_log_are_taken_out(self, fake: FakeCluster, driver: JobDriver) -> None:
        log = "Looking in indexes: https://user:canary@index.example.com/simple?token=canary\n"
        fake.kubelet.play("build", Exits(1, log=log))
        error = failed(fake, driver, retries=0)
        assert "canary" not in f"{error}{error.to_dict()}"
        assert "index.example.com" in str(error.to_dict())


def overdue(
    fake: FakeCluster, driver: JobDriver, reached: Callable[[JobStatus], bool]
) -> BuildJobError:
    """Let the deadline pass once the Job has come to a state."""

    def told(status: JobStatus | None) -> None:
        if status and status.state == "active" and reached(status):
            fake._now += timedelta(seconds=600)
            with fake.storage.changed:
                fake.storage.changed.notify_all()

    with fake.acting(), pytest.raises(BuildJobOverdue) as caught:
        driver.run(manifest(), told)
    assert "DeadlineExceeded" in caught.value.data["tables"]
    return caught.value


def test_the_tables_are_merlins(fake: FakeCluster, driver: JobDriver) -> None:
    fake.kubelet.play("build", Exits(1, log="boom\n"))
    error = failed(fake, driver, retries=0)
    assert error.data["tables"].split("\n\n")[1].splitlines() == [
        "Pod container status:",
        "CONTAINER NAME  STATUS      EXIT CODE  REASON",
        "fetch           terminated  0          Completed",
        "build           terminated  1          Error",
        "push            waiting     -          PodInitializing",
    ]
    assert error.data["tables"].startswith("Job conditions:\nTIMESTAMP")
    assert error.data["tables"].endswith("Pod last termination message:\nboom")
    assert tables(JobStatus("active")) == ""
