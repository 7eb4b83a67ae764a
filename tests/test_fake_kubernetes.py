"""The scripted parts of the fake cluster: Jobs, Pods, logs, tokens and planned faults."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from lightkube import ApiError, Client, KubeConfig
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import ConfigMap, Event, Namespace, Pod, Secret
from lightkube.types import CascadeType

from tests.fake_kubernetes import FakeCluster
from tests.fake_kubernetes.access import Rule
from tests.fake_kubernetes.outcomes import (
    CannotPull,
    Evicted,
    Executes,
    Exits,
    Hangs,
    NodeLost,
    PodOutcome,
    Step,
    Unschedulable,
    out_of_memory,
)
from tests.fake_kubernetes.resources import INFERENCE_SERVICES


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeCluster]:
    with FakeCluster(custom=[INFERENCE_SERVICES], folder=tmp_path / "node") as running:
        yield running


@pytest.fixture
def client(cluster: FakeCluster) -> Iterator[Client]:
    with cluster.client() as client:
        yield client


def create(client: Client, *, pod: dict[str, Any] | None = None, **spec: Any) -> Any:
    """Create a Job whose Pod fetches, then builds."""
    template = {
        "restartPolicy": "Never",
        "initContainers": [{"name": "fetch", "image": "fetcher:1"}],
        "containers": [
            {
                "name": "build",
                "image": "builder:1",
                "terminationMessagePolicy": "FallbackToLogsOnError",
            }
        ],
        **(pod or {}),
    }
    wanted = {"backoffLimit": 0, **spec, "template": {"spec": template}}
    body = {"metadata": {"name": "job", "namespace": "default"}, "spec": wanted}
    return client.create(Job.from_dict(body))


def ending(client: Client) -> tuple[str, str]:
    """The type and reason of the condition that ended the Job."""
    conditions = client.get(Job, "job").status.conditions or []
    ended = [(c.type, c.reason or "") for c in conditions if c.type in ("Complete", "Failed")]
    return ended[0] if ended else ("", "")


def pods(client: Client) -> list[Any]:
    return list(client.list(Pod, labels={"job-name": "job"}))


def build_state(client: Client) -> Any:
    return pods(client)[0].status.containerStatuses[0].state


def test_a_job_goes_step_by_step_to_its_end(cluster: FakeCluster, client: Client) -> None:
    cluster.kubelet.play("build", Exits(message="sha256:abc"))
    made = create(client)
    seen = []
    while cluster.step():
        for pod in pods(client):
            phase = (pod.status.phase, pod.spec.nodeName is not None)
            seen += [phase] if phase not in seen else []
    assert seen == [("Pending", False), ("Pending", True), ("Running", True), ("Succeeded", True)]
    status = client.get(Job, "job").status
    assert [c.type for c in status.conditions] == ["SuccessCriteriaMet", "Complete"]
    assert (status.succeeded, status.active, status.failed) == (1, None, None)
    assert status.completionTime
    pod = pods(client)[0]
    assert pod.metadata.ownerReferences[0].uid == made.metadata.uid
    assert pod.metadata.labels["batch.kubernetes.io/controller-uid"] == made.metadata.uid
    assert build_state(client).terminated.message == "sha256:abc"


def test_a_failed_pod_is_tried_again_after_a_while(cluster: FakeCluster, client: Client) -> None:
    cluster.kubelet.play("build", Exits(1, log="no\n"), Exits(2, log="no\n"), Exits())
    create(client, backoffLimit=2)
    cluster.settle()
    assert (client.get(Job, "job").status.failed, len(pods(client))) == (1, 1)
    assert build_state(client).terminated.message == "no\n"
    cluster.advance(9)
    assert len(pods(client)) == 1
    cluster.advance(1)
    assert (client.get(Job, "job").status.failed, len(pods(client))) == (2, 2)
    cluster.advance(20)
    assert ending(client) == ("Complete", "CompletionsReached")


def test_the_back_off_limit_ends_a_job(cluster: FakeCluster, client: Client) -> None:
    cluster.kubelet.play("fetch", Exits(3))
    create(client, backoffLimit=1)
    cluster.settle()
    assert ending(client) == ("", "")
    cluster.advance(10)
    assert ending(client) == ("Failed", "BackoffLimitExceeded")
    assert [pod.status.phase for pod in pods(client)] == ["Failed", "Failed"]
    # What was never started still waits.
    assert build_state(client).waiting.reason == "PodInitializing"


def test_a_deadline_ends_a_job_and_its_pods(cluster: FakeCluster, client: Client) -> None:
    cluster.kubelet.play("build", Hangs())
    create(client, activeDeadlineSeconds=60)
    cluster.settle()
    assert (client.get(Job, "job").status.active, client.get(Job, "job").status.ready) == (1, 1)
    cluster.advance(59)
    assert ending(client) == ("", "")
    cluster.advance(1)
    assert ending(client) == ("Failed", "DeadlineExceeded")
    assert pods(client) == []


def test_a_policy_tells_failures_apart(cluster: FakeCluster, client: Client) -> None:
    codes = {"containerName": "build", "operator": "In", "values": [137]}
    ignored = {
        "action": "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }
    rules = [{"action": "FailJob", "onExitCodes": codes}, ignored]
    cluster.kubelet.play_pods(NodeLost())
    cluster.kubelet.play("build", Hangs(), out_of_memory())
    create(client, backoffLimit=3, podFailurePolicy={"rules": rules})
    cluster.settle()
    assert ending(client) == ("Failed", "PodFailurePolicy")
    assert client.get(Job, "job").status.failed == 1
    assert build_state(client).terminated.reason == "OOMKilled"


@pytest.mark.parametrize(
    ("outcome", "ended"),
    [
        (Unschedulable(), ("", "")),
        (Evicted(), ("Failed", "BackoffLimitExceeded")),
        (NodeLost(), ("Failed", "BackoffLimitExceeded")),
    ],
)
def test_what_can_happen_to_a_pod(
    cluster: FakeCluster, client: Client, outcome: PodOutcome, ended: tuple[str, str]
) -> None:
    cluster.kubelet.play_pods(outcome)
    cluster.kubelet.play("build", Hangs())
    create(client)
    cluster.settle()
    assert ending(client) == ended
    match outcome:
        case Unschedulable():
            (condition,) = pods(client)[0].status.conditions
            assert (condition.type, condition.reason) == ("PodScheduled", "Unschedulable")
            assert any(e.reason == "FailedScheduling" for e in client.list(Event))
            cluster.kubelet.schedule()
            cluster.settle()
            assert pods(client)[0].status.phase == "Running"
        case Evicted():
            assert pods(client)[0].status.reason == "Evicted"
        case NodeLost():
            assert pods(client) == []


def test_an_image_that_cannot_be_had(cluster: FakeCluster, client: Client) -> None:
    cluster.kubelet.play("build", CannotPull("denied"))
    create(client)
    cluster.settle()
    waiting = build_state(client).waiting
    assert (waiting.reason, "denied" in waiting.message) == ("ImagePullBackOff", True)
    cluster.kubelet.release("build", Exits())
    cluster.settle()
    assert ending(client) == ("Complete", "CompletionsReached")


def test_a_missing_secret_keeps_a_pod_waiting(cluster: FakeCluster, client: Client) -> None:
    create(client, pod={"volumes": [{"name": "keys", "secret": {"secretName": "keys"}}]})
    cluster.settle()
    assert ending(client) == ("", "")
    assert any(e.reason == "FailedMount" and "keys" in e.message for e in client.list(Event))
    client.create(Secret(metadata=ObjectMeta(name="keys", namespace="default")))
    cluster.settle()
    assert ending(client) == ("Complete", "CompletionsReached")


def test_a_finished_job_expires_with_its_pods(cluster: FakeCluster, client: Client) -> None:
    create(client, ttlSecondsAfterFinished=100)
    cluster.settle()
    cluster.advance(99)
    assert len(pods(client)) == 1
    cluster.advance(1)
    assert (pods(client), list(client.list(Job))) == ([], [])


def test_a_suspended_job_has_no_pods(cluster: FakeCluster, client: Client) -> None:
    create(client, suspend=True)
    cluster.settle()
    assert pods(client) == []
    assert client.get(Job, "job").status.conditions[0].type == "Suspended"
    client.patch(Job, "job", {"spec": {"suspend": False}})
    cluster.settle()
    assert ending(client) == ("Complete", "CompletionsReached")


@pytest.mark.parametrize(
    ("cascade", "left"),
    [(None, 1), (CascadeType.BACKGROUND, 0), (CascadeType.FOREGROUND, 0), (CascadeType.ORPHAN, 1)],
)
def test_what_deleting_a_job_leaves(
    cluster: FakeCluster, client: Client, cascade: CascadeType | None, left: int
) -> None:
    cluster.kubelet.play("build", Hangs())
    create(client)
    cluster.settle()
    client.delete(Job, "job", cascade=cascade)
    cluster.settle()
    assert list(client.list(Job)) == []
    assert len(pods(client)) == left
    assert all(not pod.metadata.ownerReferences for pod in pods(client))


def test_a_pod_deleted_behind_the_jobs_back_counts_as_failed(
    cluster: FakeCluster, client: Client
) -> None:
    cluster.kubelet.play("build", Hangs())
    create(client, backoffLimit=1)
    cluster.settle()
    client.delete(Pod, pods(client)[0].metadata.name)
    cluster.settle()
    assert (client.get(Job, "job").status.failed, pods(client)) == (1, [])
    cluster.advance(10)
    assert [pod.status.phase for pod in pods(client)] == ["Running"]


def test_logs(cluster: FakeCluster, client: Client) -> None:
    cluster.kubelet.play("build", Hangs(log="one\ntwo\n"))
    create(client)
    cluster.step()
    name = pods(client)[0].metadata.name
    with pytest.raises(ApiError, match="is waiting to start"):
        list(client.log(name, container="build"))
    cluster.settle()
    assert list(client.log(name, container="build")) == ["one\n", "two\n"]
    assert list(client.log(name, container="build", tail_lines=1)) == ["two\n"]
    with pytest.raises(ApiError, match="container nothing is not valid"):
        list(client.log(name, container="nothing"))
    followed = client.log(name, container="build", follow=True)
    assert [next(followed), next(followed)] == ["one\n", "two\n"]
    cluster.kubelet.release("build", Exits(log="three\n"))
    cluster.settle()
    assert list(followed) == ["three\n"]


def test_a_container_can_run_for_real(cluster: FakeCluster, client: Client) -> None:
    def fetch(step: Step) -> Exits:
        (step.mounts["/work"] / "model").write_text("weights")
        return Exits()

    def build(step: Step) -> Exits:
        key = (step.mounts["/secrets"] / "key").read_text()
        model = (step.mounts["/work"] / "model").read_text()
        step.termination_log.write_text(f"{step.command} {key} {model}")
        return Exits()

    cluster.kubelet.play("fetch", Executes(fetch))
    cluster.kubelet.play("build", Executes(build))
    secret = {"metadata": {"name": "keys", "namespace": "default"}, "stringData": {"key": "k"}}
    client.create(Secret.from_dict(secret))
    mounts = [{"name": "work", "mountPath": "/work"}]
    keys = [{"name": "keys", "mountPath": "/secrets"}]
    pod = {
        "volumes": [
            {"name": "work", "emptyDir": {}},
            {"name": "keys", "secret": {"secretName": "keys"}},
        ],
        "initContainers": [{"name": "fetch", "image": "f:1", "volumeMounts": mounts}],
        "containers": [
            {"name": "build", "image": "b:1", "args": ["go"], "volumeMounts": mounts + keys}
        ],
    }
    create(client, pod=pod)
    cluster.settle()
    assert build_state(client).terminated.message == "['go'] k weights"


def test_a_namespace_goes_with_what_is_in_it(cluster: FakeCluster, client: Client) -> None:
    client.create(Namespace(metadata=ObjectMeta(name="gone")))
    client.create(ConfigMap(metadata=ObjectMeta(name="a", namespace="gone")))
    client.delete(Namespace, "gone")
    with pytest.raises(ApiError, match="being terminated"):
        client.create(ConfigMap(metadata=ObjectMeta(name="b", namespace="gone")))
    cluster.settle()
    assert list(client.list(ConfigMap, namespace="gone")) == []
    assert [each.metadata.name for each in client.list(Namespace)] == ["default"]


def test_a_custom_resource(cluster: FakeCluster, client: Client) -> None:
    kind = create_namespaced_resource(
        INFERENCE_SERVICES.group, "v1beta1", "InferenceService", "inferenceservices"
    )
    body = kind(metadata=ObjectMeta(name="a", namespace="default"), spec={"predictor": {"x": [1]}})
    made = client.apply(body, field_manager="merlin")
    assert client.apply(body, field_manager="merlin").metadata == made.metadata
    with pytest.raises(ApiError) as refused:
        client.replace(kind(metadata=ObjectMeta(name="a", namespace="default"), spec={}))
    assert refused.value.status.code == 422


def test_tokens(cluster: FakeCluster, tmp_path: Path) -> None:
    rules = [Rule(["get", "list"], ["jobs"], "default")]
    path = cluster.write_kubeconfig(tmp_path / "kubeconfig", token=cluster.token("reader", rules))
    with Client(KubeConfig.from_file(path), trust_env=False) as reader:
        assert list(reader.list(Job)) == []
        for refused in (
            lambda: create(reader),
            lambda: list(reader.list(Job, namespace="other")),
            lambda: list(reader.list(Pod)),
        ):
            with pytest.raises(ApiError) as error:
                refused()
            assert (error.value.status.code, error.value.status.reason) == (403, "Forbidden")
        assert 'cannot list resource "pods"' in str(error.value)
        cluster.access.revoke("reader")
        with pytest.raises(ApiError) as error:
            list(reader.list(Job))
        assert error.value.status.code == 401


@pytest.mark.parametrize("code", [409, 410, 429, 500, 503])
def test_planned_refusals(cluster: FakeCluster, client: Client, code: int) -> None:
    cluster.faults.answer(code, verb="get", resource="jobs")
    create(client)
    with pytest.raises(ApiError) as refused:
        client.get(Job, "job")
    assert refused.value.status.code == code
    assert ("Retry-After" in refused.value.response.headers) == (code in (429, 503))
    assert client.get(Job, "job").metadata.name == "job"


def test_dropped_connections(cluster: FakeCluster, client: Client) -> None:
    cluster.faults.drop(verb="create")
    with pytest.raises(httpx2.TransportError):
        create(client)
    assert list(client.list(Job)) == []
    cluster.faults.lose_answer(verb="create")
    with pytest.raises(httpx2.TransportError):
        create(client)
    with pytest.raises(ApiError, match="already exists"):
        create(client)


def test_something_happens_just_before(cluster: FakeCluster, client: Client) -> None:
    create(client)
    with cluster.client() as other:
        cluster.faults.before(
            lambda: other.delete(Job, "job", cascade=CascadeType.BACKGROUND),
            verb="patch",
            resource="jobs",
        )
        with pytest.raises(ApiError, match="not found"):
            client.patch(Job, "job", {"spec": {"suspend": True}})


def test_a_version_older_than_the_history_is_gone(cluster: FakeCluster, client: Client) -> None:
    old = client.create(ConfigMap(metadata=ObjectMeta(name="a", namespace="default")))
    version = old.metadata.resourceVersion if old.metadata else None
    cluster.compact()
    with pytest.raises(ApiError) as gone:
        next(iter(client.watch(ConfigMap, resource_version=version)))
    assert (gone.value.status.code, gone.value.status.reason) == (410, "Expired")
    fresh = next(iter(client.watch(ConfigMap)))
    assert fresh[0] == "ADDED"


def test_pages_expire(cluster: FakeCluster, client: Client) -> None:
    for name in ("a", "b"):
        client.create(ConfigMap(metadata=ObjectMeta(name=name, namespace="default")))
    pages = iter(client.list(ConfigMap, chunk_size=1))
    next(pages)
    cluster.compact()
    with pytest.raises(ApiError) as gone:
        next(pages)
    assert gone.value.status.code == 410


def test_watches_are_cut_after_some_events(cluster: FakeCluster) -> None:
    for name in ("a", "b", "c"):
        cluster.create_namespace(name)
    cluster.faults.events_a_watch = 2
    headers = {"Authorization": "Bearer admin-token"}
    answer = httpx2.get(f"{cluster.url}/api/v1/namespaces?watch=true", headers=headers)
    assert len(answer.text.splitlines()) == 2


def test_a_restart_ends_watches_and_keeps_objects(cluster: FakeCluster, client: Client) -> None:
    client.create(ConfigMap(metadata=ObjectMeta(name="a", namespace="default")))
    watched = iter(client.watch(ConfigMap))
    assert next(watched)[0] == "ADDED"
    cluster.restart()
    with pytest.raises(httpx2.TransportError):
        next(watched)
    assert client.get(ConfigMap, "a").metadata


def test_bookmarks(cluster: FakeCluster) -> None:
    query = {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "timeoutSeconds": "0",
    }
    headers = {"Authorization": "Bearer admin-token"}
    answer = httpx2.get(f"{cluster.url}/api/v1/namespaces", params=query, headers=headers)
    events = answer.text.splitlines()
    assert '"ADDED"' in events[0]
    assert '"BOOKMARK"' in events[1]
    assert "k8s.io/initial-events-end" in events[1]


def test_the_controllers_can_act_by_themselves(cluster: FakeCluster, client: Client) -> None:
    done = threading.Event()
    with cluster.acting():
        create(client)
        for _, job in client.watch(Job, fields={"metadata.name": "job"}):
            if any(c.type == "Complete" for c in job.status.conditions or ()):
                done.set()
                break
    assert done.is_set()


def test_watches_are_cut_after_some_time(cluster: FakeCluster) -> None:
    cluster.faults.seconds_a_watch = 0
    headers = {"Authorization": "Bearer admin-token"}
    query = {"watch": "true", "timeoutSeconds": "200"}
    answer = httpx2.get(f"{cluster.url}/api/v1/namespaces", params=query, headers=headers)
    assert len(answer.text.splitlines()) == 1
