"""What an API server answers: a table of facts that our code relies on.

They hold for the fake one and, with ``KUBECONFIG`` set, for a real one: then the same tests run
there, in namespaces of their own. A fact of newer servers names the first that has it.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from lightkube import ApiError, Client, KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import ConfigMap, Namespace, Pod, Secret
from lightkube.types import CascadeType, PatchType

from tests.fake_kubernetes import FakeCluster

Object = dict[str, Any]
CONTAINER: Object = {"name": "build", "image": "builder:1"}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    if os.environ.get("KUBECONFIG"):
        with Client(KubeConfig.from_env()) as real:
            yield real
        return
    with FakeCluster(strict=False) as cluster, cluster.client() as fake:
        cluster.compact()
        yield fake


@pytest.fixture
def namespace(client: Client) -> Iterator[str]:
    name = f"facts-{secrets.token_hex(4)}"
    client.create(Namespace(metadata=ObjectMeta(name=name)))
    yield name
    client.delete(Namespace, name)


class Api:
    """The API without a typed client, for what a typed client cannot say."""

    def __init__(self, client: Client, namespace: str) -> None:
        # The one connection that the typed client made, with its certificates and its token.
        self._http: httpx2.Client = client._client._client
        self._namespace = namespace

    def call(self, method: str, plural: str, body: Any = None, **query: Any) -> httpx2.Response:
        headers = {"Content-Type": query.pop("content_type", "application/json")}
        root = "apis/batch/v1" if plural.startswith("jobs") else "api/v1"
        content = body if isinstance(body, str) else json.dumps(body)
        return self._http.request(
            method,
            f"/{root}/namespaces/{self._namespace}/{plural}",
            content=None if body is None else content,
            headers=headers,
            params=query,
        )

    def watch(self, plural: str, **query: Any) -> list[Object]:
        """The events of a watch that the server ends after a second."""
        answer = self.call("GET", plural, watch="true", timeoutSeconds=1, **query)
        assert answer.status_code == 200
        return [json.loads(line) for line in answer.text.splitlines()]

    def version(self) -> int:
        return int(self._http.get("/version").json()["minor"].rstrip("+"))


@pytest.fixture
def api(client: Client, namespace: str) -> Api:
    return Api(client, namespace)


def job(name: str = "build", **changes: Any) -> Object:
    """A Job that is accepted; ``changes`` replace fields of its Pod."""
    spec = {"restartPolicy": "Never", "containers": [CONTAINER], **changes}
    return {"metadata": {"name": name}, "spec": {"template": {"spec": spec}}}


def config_map(name: str = "settings", data: Object | None = None, **metadata: Any) -> Object:
    return {"metadata": {"name": name, **metadata}, "data": data or {}}


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    """The code and reason of a Status, whose shape is checked on the way."""
    status = answer.json()
    assert (status["kind"], status["status"]) == ("Status", "Failure")
    assert status["code"] == answer.status_code
    assert status["message"]
    return status["code"], status["reason"]


def fields(answer: httpx2.Response) -> list[str]:
    assert refusal(answer) == (422, "Invalid"), answer.text
    return [cause["field"] for cause in answer.json()["details"]["causes"]]


REFUSED: list[tuple[str, Object, str]] = [
    ("a name with capitals", job("Build"), "metadata.name"),
    ("a name with an underscore", job("a_b"), "metadata.name"),
    ("no containers", job(containers=[]), "spec.template.spec.containers"),
    ("a restart policy", job(restartPolicy="Always"), "spec.template.spec.restartPolicy"),
    (
        "no image",
        job(containers=[{"name": "build"}]),
        "spec.template.spec.containers[0].image",
    ),
    (
        "two containers of one name",
        job(containers=[CONTAINER, CONTAINER]),
        "spec.template.spec.containers[1].name",
    ),
    (
        "two volumes of one name",
        job(volumes=[{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]),
        "spec.template.spec.volumes[1].name",
    ),
    (
        "a mount of no volume",
        job(containers=[{**CONTAINER, "volumeMounts": [{"name": "a", "mountPath": "/a"}]}]),
        "spec.template.spec.containers[0].volumeMounts[0].name",
    ),
    (
        "two mounts at one path",
        job(
            volumes=[{"name": "a", "emptyDir": {}}, {"name": "b", "emptyDir": {}}],
            containers=[
                {
                    **CONTAINER,
                    "volumeMounts": [
                        {"name": "a", "mountPath": "/a"},
                        {"name": "b", "mountPath": "/a"},
                    ],
                }
            ],
        ),
        "spec.template.spec.containers[0].volumeMounts[1].mountPath",
    ),
    (
        "a volume of two kinds",
        job(volumes=[{"name": "a", "emptyDir": {}, "secret": {"secretName": "b"}}]),
        "spec.template.spec.volumes[0].secret",
    ),
    (
        "requests over limits",
        job(
            containers=[
                {**CONTAINER, "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "500m"}}}
            ]
        ),
        "spec.template.spec.containers[0].resources.requests",
    ),
    (
        "an environment variable's name",
        job(containers=[{**CONTAINER, "env": [{"name": "A=B", "value": "1"}]}]),
        "spec.template.spec.containers[0].env[0].name",
    ),
    (
        "a pull policy",
        job(containers=[{**CONTAINER, "imagePullPolicy": "Sometimes"}]),
        "spec.template.spec.containers[0].imagePullPolicy",
    ),
    (
        "a policy of termination messages",
        job(containers=[{**CONTAINER, "terminationMessagePolicy": "Logs"}]),
        "spec.template.spec.containers[0].terminationMessagePolicy",
    ),
    (
        "a port",
        job(containers=[{**CONTAINER, "ports": [{"containerPort": 70000}]}]),
        "spec.template.spec.containers[0].ports[0].containerPort",
    ),
    (
        "a resource that no node has",
        job(containers=[{**CONTAINER, "resources": {"limits": {"ram": "1"}}}]),
        "spec.template.spec.containers[0].resources.limits[ram]",
    ),
    (
        "a toleration of all keys but not their values",
        job(tolerations=[{"operator": "Equal"}]),
        "spec.template.spec.tolerations[0].operator",
    ),
    (
        "the name of a service account",
        job(serviceAccountName="A_B"),
        "spec.template.spec.serviceAccountName",
    ),
    (
        "the mode of a secret's files",
        job(volumes=[{"name": "a", "secret": {"secretName": "b", "defaultMode": 4096}}]),
        "spec.template.spec.volumes[0].secret.defaultMode",
    ),
    (
        "a selector of one's own",
        {**job(), "spec": {**job()["spec"], "selector": {"matchLabels": {"a": "b"}}}},
        "spec.selector",
    ),
    (
        "a finalizer without a domain",
        {**job(), "metadata": {"name": "build", "finalizers": ["hold"]}},
        "metadata.finalizers[0]",
    ),
    (
        "a label's value",
        {**job(), "metadata": {"name": "build", "labels": {"a": "x" * 64}}},
        "metadata.labels",
    ),
    (
        "a label's key",
        {**job(), "metadata": {"name": "build", "labels": {"a b": "x"}}},
        "metadata.labels",
    ),
    (
        "an annotation's key",
        {**job(), "metadata": {"name": "build", "annotations": {"a b": "x"}}},
        "metadata.annotations",
    ),
    (
        "a negative deadline",
        {**job(), "spec": {**job()["spec"], "activeDeadlineSeconds": -1}},
        "spec.activeDeadlineSeconds",
    ),
    (
        "a negative back-off limit",
        {**job(), "spec": {**job()["spec"], "backoffLimit": -1}},
        "spec.backoffLimit",
    ),
]


@pytest.mark.parametrize(
    ("body", "field"), [each[1:] for each in REFUSED], ids=[each[0] for each in REFUSED]
)
def test_a_job_that_cannot_work_is_refused_with_the_field(
    api: Api, body: Object, field: str
) -> None:
    assert field in fields(api.call("POST", "jobs", body))


def test_a_negative_time_to_live_is_refused(api: Api) -> None:
    if api.version() < 21:
        pytest.skip("Jobs have a time to live since Kubernetes 1.21")
    body = {**job(), "spec": {**job()["spec"], "ttlSecondsAfterFinished": -1}}
    assert fields(api.call("POST", "jobs", body)) == ["spec.ttlSecondsAfterFinished"]


def test_a_job_may_be_tried_without_being_kept(api: Api) -> None:
    tried = api.call("POST", "jobs", job(), dryRun="All")
    assert tried.status_code == 201
    assert tried.json()["metadata"]["uid"]
    assert refusal(api.call("GET", "jobs/build")) == (404, "NotFound")
    assert refusal(api.call("POST", "jobs", job("A"), dryRun="All")) == (422, "Invalid")


def test_what_a_job_is_given(api: Api) -> None:
    made = api.call("POST", "jobs", job()).json()
    assert made["metadata"]["creationTimestamp"].endswith("Z")
    spec, pod = made["spec"], made["spec"]["template"]["spec"]
    assert (spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (1, 1, 6)
    assert pod["containers"][0]["terminationMessagePolicy"] == "File"
    assert pod["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    labels = spec["template"]["metadata"]["labels"]
    assert labels["job-name"] == "build"
    assert labels["controller-uid"] == made["metadata"]["uid"]
    assert set(spec["selector"]["matchLabels"].values()) == {made["metadata"]["uid"]}


def test_the_template_of_a_job_is_fixed(api: Api) -> None:
    made = api.call("POST", "jobs", job()).json()
    made["spec"]["template"]["spec"]["containers"][0]["image"] = "builder:2"
    assert fields(api.call("PUT", "jobs/build", made)) == ["spec.template"]
    patch = {"spec": {"backoffLimit": 1}}
    media = "application/merge-patch+json"
    changed = api.call("PATCH", "jobs/build", patch, content_type=media).json()
    assert changed["spec"]["backoffLimit"] == 1
    if api.version() >= 24:
        assert (made["metadata"]["generation"], changed["metadata"]["generation"]) == (1, 2)


def test_a_name_is_taken_once(api: Api) -> None:
    assert api.call("POST", "configmaps", config_map()).status_code == 201
    again = api.call("POST", "configmaps", config_map())
    assert refusal(again) == (409, "AlreadyExists")
    assert again.json()["details"] == {"name": "settings", "kind": "configmaps"}


def test_names_are_generated(api: Api) -> None:
    body = {"metadata": {"generateName": "a-"}}
    names = {api.call("POST", "configmaps", body).json()["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("a-") and len(name) == 7 for name in names)
    assert refusal(api.call("POST", "configmaps", {"metadata": {}})) == (422, "Invalid")


def test_what_is_absent_is_not_found(api: Api, client: Client) -> None:
    absent = api.call("GET", "jobs/build")
    assert refusal(absent) == (404, "NotFound")
    assert absent.json()["details"] == {"name": "build", "group": "batch", "kind": "jobs"}
    assert absent.json()["message"] == 'jobs.batch "build" not found'
    assert api.call("DELETE", "jobs/build").status_code == 404
    elsewhere = Api(client, "no-such-namespace")
    assert refusal(elsewhere.call("POST", "jobs", job())) == (404, "NotFound")
    assert elsewhere.call("GET", "jobs").json()["items"] == []


def test_what_cannot_be_decoded_is_a_bad_request(api: Api) -> None:
    wrong: list[Any] = [
        "{",
        {**job(), "kind": "Secret", "apiVersion": "v1"},
        {**job(), "spec": {**job()["spec"], "backoffLimit": "three"}},
        {**job(), "metadata": {"name": "build", "labels": {"a": 1}}},
    ]
    for body in wrong:
        assert refusal(api.call("POST", "jobs", body)) == (400, "BadRequest")


def test_unknown_fields_are_dropped_unless_asked_about(api: Api) -> None:
    body = config_map()
    body["dat"] = {}
    assert "dat" not in api.call("POST", "configmaps", body).json()
    if api.version() < 25:
        pytest.skip("strict validation of fields needs Kubernetes 1.25")
    strict = api.call("POST", "configmaps", body, fieldValidation="Strict")
    assert refusal(strict) == (400, "BadRequest")
    assert 'unknown field "dat"' in strict.json()["message"]
    twice = '{"metadata": {"name": "a"}, "data": {"a": "1", "a": "2"}}'
    double = api.call("POST", "configmaps", twice, fieldValidation="Strict")
    assert refusal(double) == (400, "BadRequest")
    assert "duplicate field" in double.json()["message"]


def test_the_name_in_the_path_counts(api: Api) -> None:
    api.call("POST", "configmaps", config_map())
    assert refusal(api.call("PUT", "configmaps/settings", config_map("other"))) == (
        400,
        "BadRequest",
    )


def test_an_update_of_an_older_version_is_a_conflict(api: Api) -> None:
    first = api.call("POST", "configmaps", config_map()).json()
    second = api.call("PUT", "configmaps/settings", {**first, "data": {"a": "1"}})
    assert int(second.json()["metadata"]["resourceVersion"]) > int(
        first["metadata"]["resourceVersion"]
    )
    late = api.call("PUT", "configmaps/settings", {**first, "data": {"a": "2"}})
    assert refusal(late) == (409, "Conflict")
    unconditional = api.call("PUT", "configmaps/settings", config_map(data={"a": "3"}))
    assert unconditional.json()["data"] == {"a": "3"}
    assert unconditional.json()["metadata"]["uid"] == first["metadata"]["uid"]


def test_an_update_that_changes_nothing_writes_nothing(api: Api) -> None:
    first = api.call("POST", "configmaps", config_map(data={"a": "1"})).json()
    same = api.call("PUT", "configmaps/settings", first).json()
    assert same["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_the_status_has_a_way_of_its_own(api: Api) -> None:
    made = api.call("POST", "jobs", {**job(), "status": {"active": 7}}).json()
    assert "active" not in made["status"]
    made["status"] = {"active": 7}
    assert "active" not in api.call("PUT", "jobs/build", made).json()["status"]
    patch = {"status": {"active": 1}, "spec": {"backoffLimit": 1}}
    media = "application/merge-patch+json"
    changed = api.call("PATCH", "jobs/build/status", patch, content_type=media).json()
    assert changed["status"]["active"] == 1
    assert changed["spec"]["backoffLimit"] == 6


def test_merge_patches(api: Api) -> None:
    api.call("POST", "configmaps", config_map(data={"a": "1", "b": "2"}))
    media = "application/merge-patch+json"
    patch = {"data": {"a": None, "c": "3"}}
    patched = api.call("PATCH", "configmaps/settings", patch, content_type=media).json()
    assert patched["data"] == {"b": "2", "c": "3"}
    stale = {"metadata": {"resourceVersion": "1"}, "data": {"d": "4"}}
    late = api.call("PATCH", "configmaps/settings", stale, content_type=media)
    assert refusal(late) == (409, "Conflict")


def test_strategic_patches_merge_lists_by_key(api: Api) -> None:
    pod = {"metadata": {"name": "a"}, "spec": {"containers": [CONTAINER], "restartPolicy": "Never"}}
    api.call("POST", "pods", pod)
    patch = {"spec": {"containers": [{"name": "build", "image": "builder:2"}]}}
    media = "application/strategic-merge-patch+json"
    patched = api.call("PATCH", "pods/a", patch, content_type=media).json()
    assert [c["image"] for c in patched["spec"]["containers"]] == ["builder:2"]
    assert patched["spec"]["containers"][0]["terminationMessagePolicy"] == "File"


def test_json_patches(api: Api) -> None:
    api.call("POST", "configmaps", config_map(data={"a": "1"}))
    media = "application/json-patch+json"
    patch = [{"op": "test", "path": "/data/a", "value": "1"}, {"op": "remove", "path": "/data/a"}]
    done = api.call("PATCH", "configmaps/settings", patch, content_type=media)
    assert done.status_code == 200
    assert api.call("PATCH", "configmaps/settings", patch, content_type=media).status_code == 422


def apply(api: Api, manager: str, body: Object, name: str = "settings", **query: Any) -> Any:
    kind = "Job" if "spec" in body else "ConfigMap"
    whole = {"apiVersion": "batch/v1" if kind == "Job" else "v1", "kind": kind, **body}
    plural = "jobs" if kind == "Job" else "configmaps"
    media = "application/apply-patch+yaml"
    return api.call(
        "PATCH", f"{plural}/{name}", whole, content_type=media, fieldManager=manager, **query
    )


def test_apply_creates_then_changes_then_writes_nothing(api: Api) -> None:
    made = apply(api, "one", config_map(data={"a": "1"}))
    assert made.status_code == 201
    same = apply(api, "one", config_map(data={"a": "1"}))
    assert same.status_code == 200
    version = made.json()["metadata"]["resourceVersion"]
    assert same.json()["metadata"]["resourceVersion"] == version
    changed = apply(api, "one", config_map(data={"b": "2"})).json()
    assert changed["data"] == {"b": "2"}


def test_apply_keeps_to_its_own_fields(api: Api) -> None:
    apply(api, "one", config_map(data={"a": "1"}))
    both = apply(api, "two", config_map(data={"b": "2"})).json()
    assert both["data"] == {"a": "1", "b": "2"}
    managers = {e["manager"]: e["fieldsV1"] for e in both["metadata"]["managedFields"]}
    assert managers == {"one": {"f:data": {"f:a": {}}}, "two": {"f:data": {"f:b": {}}}} or (
        managers["one"]["f:data"].keys() - {"."} == {"f:a"}
    )
    taken = apply(api, "two", config_map(data={"a": "3", "b": "2"}))
    assert refusal(taken) == (409, "Conflict")
    cause = taken.json()["details"]["causes"][0]
    assert (cause["reason"], cause["field"]) == ("FieldManagerConflict", ".data.a")
    assert 'conflict with "one"' in cause["message"]
    forced = apply(api, "two", config_map(data={"a": "3", "b": "2"}), force="true").json()
    assert forced["data"] == {"a": "3", "b": "2"}
    # The first manager lost the field, so that its giving it up changes nothing.
    assert apply(api, "one", config_map()).json()["data"] == {"a": "3", "b": "2"}


def test_two_may_apply_the_same_value(api: Api) -> None:
    apply(api, "one", config_map(data={"a": "1"}))
    assert apply(api, "two", config_map(data={"a": "1"})).status_code == 200
    assert apply(api, "one", config_map()).json()["data"] == {"a": "1"}
    assert "a" not in apply(api, "two", config_map()).json().get("data", {})


def test_other_writes_take_fields(api: Api) -> None:
    apply(api, "one", config_map(data={"a": "1"}))
    media = "application/merge-patch+json"
    patch = {"data": {"a": "2"}}
    api.call("PATCH", "configmaps/settings", patch, content_type=media, fieldManager="hand")
    taken = apply(api, "one", config_map(data={"a": "1"}))
    assert refusal(taken) == (409, "Conflict")
    assert "hand" in taken.json()["message"]


def test_apply_of_a_job_again_writes_nothing(api: Api) -> None:
    body = job(
        volumes=[{"name": "a", "emptyDir": {}}],
        containers=[
            {
                **CONTAINER,
                "env": [{"name": "A", "value": "1"}],
                "ports": [{"containerPort": 80}],
                "volumeMounts": [{"name": "a", "mountPath": "/a"}],
            }
        ],
    )
    made = apply(api, "one", body, "build").json()
    same = apply(api, "one", body, "build").json()
    if api.version() > 20:
        # 1.20 writes a Job that is applied again, though nothing in it changes.
        assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert same["spec"] == made["spec"]
    other = job(containers=[{**CONTAINER, "image": "builder:2"}])
    assert fields(apply(api, "one", other, "build")) == ["spec.template"]


def test_apply_needs_a_manager_and_known_fields(api: Api) -> None:
    media = "application/apply-patch+yaml"
    whole = {"apiVersion": "v1", "kind": "ConfigMap", **config_map()}
    nobody = api.call("PATCH", "configmaps/settings", whole, content_type=media)
    assert fields(nobody) == ["fieldManager"]
    unknown = apply(api, "one", {**config_map(), "dat": {}})
    assert unknown.status_code in (400, 500)
    assert ".dat: field not declared in schema" in unknown.json()["message"]


def test_lists_come_in_pages_of_one_version(api: Api) -> None:
    for name in ("a", "b", "c"):
        api.call("POST", "configmaps", config_map(name, labels={"ours": "yes"}))
    first = api.call("GET", "configmaps", limit=2, labelSelector="ours").json()
    assert [item["metadata"]["name"] for item in first["items"]] == ["a", "b"]
    api.call("POST", "configmaps", config_map("bb", labels={"ours": "yes"}))
    token = first["metadata"]["continue"]
    rest = api.call("GET", "configmaps", labelSelector="ours", **{"continue": token}).json()
    assert [item["metadata"]["name"] for item in rest["items"]] == ["c"]
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert "continue" not in rest["metadata"]


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("app=x", ["a"]),
        ("app!=x", ["b", "c"]),
        ("app in (x,y)", ["a", "b"]),
        ("app notin (x)", ["b", "c"]),
        ("app", ["a", "b"]),
        ("!app,ours", ["c"]),
        ("app=x,ours=no", []),
    ],
)
def test_label_selectors(api: Api, selector: str, names: list[str]) -> None:
    for name, labels in (("a", {"app": "x"}), ("b", {"app": "y"}), ("c", {})):
        api.call("POST", "secrets", {"metadata": {"name": name, "labels": {**labels, "ours": ""}}})
    query = {"labelSelector": selector, "fieldSelector": "type=Opaque"}
    listed = api.call("GET", "secrets", **query).json()
    assert [item["metadata"]["name"] for item in listed["items"]] == names


def test_field_selectors(api: Api) -> None:
    api.call("POST", "configmaps", config_map("a"))
    api.call("POST", "configmaps", config_map("b"))
    listed = api.call("GET", "configmaps", fieldSelector="metadata.name=b").json()
    assert [item["metadata"]["name"] for item in listed["items"]] == ["b"]
    assert api.call("GET", "configmaps", fieldSelector="data.a=b").status_code == 400
    assert api.call("GET", "configmaps", labelSelector="a b").status_code == 400


def test_a_watch_tells_what_happened_since_a_version(api: Api) -> None:
    labels = {"labels": {"ours": "yes"}}
    start = api.call("GET", "configmaps").json()["metadata"]["resourceVersion"]
    api.call("POST", "configmaps", config_map("a", **labels))
    api.call("POST", "configmaps", config_map("other"))
    api.call("PUT", "configmaps/a", config_map("a", {"x": "1"}, **labels))
    api.call("PUT", "configmaps/a", config_map("a", {"x": "2"}))
    api.call("PUT", "configmaps/a", config_map("a", {"x": "3"}, **labels))
    api.call("DELETE", "configmaps/a")
    events = api.watch("configmaps", resourceVersion=start, labelSelector="ours=yes")
    kinds = [event["type"] for event in events]
    # What no longer matches has gone, to a watch; what matches again is new.
    assert kinds == ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))


def test_a_watch_without_a_version_begins_with_what_is_there(api: Api) -> None:
    api.call("POST", "configmaps", config_map("a"))
    events = api.watch("configmaps", fieldSelector="metadata.name=a")
    assert [(e["type"], e["object"]["metadata"]["name"]) for e in events] == [("ADDED", "a")]


def test_one_object_can_be_watched_for_its_end(api: Api) -> None:
    made = api.call("POST", "configmaps", config_map("a")).json()
    api.call("DELETE", "configmaps/a")
    version = made["metadata"]["resourceVersion"]
    events = api.watch("configmaps", fieldSelector="metadata.name=a", resourceVersion=version)
    assert [event["type"] for event in events] == ["DELETED"]
    assert int(events[0]["object"]["metadata"]["resourceVersion"]) > int(version)


def test_a_version_that_is_too_old_is_gone(api: Api) -> None:
    events = api.watch("configmaps", resourceVersion="1")
    if not events or events[0]["type"] != "ERROR":
        pytest.skip("this server's history still reaches back to its beginning")
    assert events[0]["object"]["code"] == 410
    assert events[0]["object"]["reason"] in ("Expired", "Gone")


def test_deleting_answers_and_respects_preconditions(api: Api) -> None:
    made = api.call("POST", "configmaps", config_map()).json()
    wrong = {"preconditions": {"uid": "another"}}
    assert refusal(api.call("DELETE", "configmaps/settings", wrong)) == (409, "Conflict")
    assert api.call("DELETE", "configmaps/settings", dryRun="All").status_code == 200
    right = {"preconditions": {"uid": made["metadata"]["uid"]}}
    gone = api.call("DELETE", "configmaps/settings", right)
    assert gone.json()["status"] == "Success"
    assert gone.json()["details"]["uid"] == made["metadata"]["uid"]
    assert api.call("GET", "configmaps/settings").status_code == 404


def test_a_finalizer_holds_what_is_deleted(api: Api) -> None:
    api.call("POST", "configmaps", config_map(finalizers=["example.com/hold"]))
    held = api.call("DELETE", "configmaps/settings").json()
    assert held["metadata"]["deletionTimestamp"]
    more = {"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}
    media = "application/merge-patch+json"
    assert refusal(api.call("PATCH", "configmaps/settings", more, content_type=media)) == (
        422,
        "Invalid",
    )
    none = {"metadata": {"finalizers": None}}
    assert api.call("PATCH", "configmaps/settings", none, content_type=media).status_code == 200
    assert api.call("GET", "configmaps/settings").status_code == 404


@pytest.mark.parametrize(
    ("cascade", "finalizers"),
    [(None, ["orphan"]), (CascadeType.FOREGROUND, ["foregroundDeletion"])],
)
def test_how_a_job_is_deleted_is_kept_for_the_collector(
    api: Api, client: Client, namespace: str, cascade: CascadeType | None, finalizers: list[str]
) -> None:
    """Without a word, batch/v1 leaves the Pods of a Job behind."""
    # A finalizer of our own holds the Job, so that a collector at work cannot hide the fact.
    body = {**job(), "metadata": {"name": "build", "finalizers": ["example.com/hold"]}}
    api.call("POST", "jobs", body)
    client.delete(Job, "build", namespace=namespace, cascade=cascade)
    held = api.call("GET", "jobs/build").json()["metadata"]
    assert held["deletionTimestamp"]
    assert set(held["finalizers"]) >= {"example.com/hold"}
    assert set(held["finalizers"]) - {"example.com/hold"} <= set(finalizers)
    media = "application/merge-patch+json"
    api.call("PATCH", "jobs/build", {"metadata": {"finalizers": None}}, content_type=media)


def test_a_job_deleted_in_the_background_is_gone_at_once(
    api: Api, client: Client, namespace: str
) -> None:
    api.call("POST", "jobs", job())
    client.delete(Job, "build", namespace=namespace, cascade=CascadeType.BACKGROUND)
    assert api.call("GET", "jobs/build").status_code == 404


def test_a_collection_is_deleted_by_selector(api: Api) -> None:
    for name in ("a", "b"):
        api.call("POST", "configmaps", config_map(name, labels={"app": name}))
    api.call("DELETE", "configmaps", labelSelector="app=a")
    assert api.call("GET", "configmaps/a").status_code == 404
    assert api.call("GET", "configmaps/b").status_code == 200


def test_secrets_are_encoded_and_can_be_made_immutable(
    api: Api, client: Client, namespace: str
) -> None:
    body = {"metadata": {"name": "a"}, "stringData": {"key": "value"}, "immutable": True}
    made = api.call("POST", "secrets", body).json()
    assert made["data"] == {"key": "dmFsdWU="}
    assert (made["type"], "stringData" in made) == ("Opaque", False)
    assert fields(api.call("PUT", "secrets/a", {**made, "data": {}})) == ["data"]
    assert client.get(Secret, "a", namespace=namespace).data == {"key": "dmFsdWU="}


def test_secrets_that_cannot_be_used_are_refused(api: Api) -> None:
    body = {"metadata": {"name": "a"}, "data": {"key": "not base64"}}
    assert refusal(api.call("POST", "secrets", body)) == (400, "BadRequest")
    kind = {"metadata": {"name": "a"}, "type": "kubernetes.io/dockerconfigjson"}
    assert fields(api.call("POST", "secrets", kind)) == ["data[.dockerconfigjson]"]


def test_unreadable_quantities_policies_and_patches(api: Api) -> None:
    resources = {"limits": {"cpu": "many"}}
    body = job(containers=[{**CONTAINER, "resources": resources}])
    assert refusal(api.call("POST", "jobs", body)) == (400, "BadRequest")
    api.call("POST", "jobs", job())
    policy = api.call("DELETE", "jobs/build", propagationPolicy="Never")
    assert fields(policy) == ["propagationPolicy"]
    media = "application/merge-patch+json"
    patch = {"spec": {"backoffLimit": "three"}}
    assert fields(api.call("PATCH", "jobs/build", patch, content_type=media)) == ["patch"]


def test_a_part_of_a_job_can_be_applied(api: Api) -> None:
    api.call("POST", "jobs", job(), fieldManager="hand")
    part = {"metadata": {"name": "build"}, "spec": {"backoffLimit": 3}}
    assert refusal(apply(api, "one", part, "build")) == (409, "Conflict")
    forced = apply(api, "one", part, "build", force="true").json()
    assert forced["spec"]["backoffLimit"] == 3
    assert forced["spec"]["template"]["spec"]["containers"][0]["image"] == "builder:1"
    missing = {"metadata": {"name": "other"}, "spec": {"backoffLimit": 3}}
    assert "spec.template.spec.containers" in fields(apply(api, "one", missing, "other"))


def test_discovery(api: Api, client: Client, namespace: str) -> None:
    http: httpx2.Client = api._http
    assert http.get("/version").json()["major"] == "1"
    assert http.get("/api").json()["versions"] == ["v1"]
    groups = {group["name"] for group in http.get("/apis").json()["groups"]}
    assert {"batch", "apps"} <= groups
    kinds = {each["name"] for each in http.get("/apis/batch/v1").json()["resources"]}
    assert {"jobs", "jobs/status"} <= kinds
    assert http.get("/apis/no.such.group/v1/things").status_code == 404


def test_the_typed_client_understands(client: Client, namespace: str) -> None:
    made = client.create(ConfigMap(metadata=ObjectMeta(name="a", namespace=namespace)))
    made.data = {"a": "1"}
    stale = made.metadata.resourceVersion if made.metadata else None
    client.replace(made)
    with pytest.raises(ApiError) as refused:
        client.replace(made)
    assert (refused.value.status.code, refused.value.status.reason) == (409, "Conflict")
    patch = {"data": {"b": "2"}}
    both = client.patch(ConfigMap, "a", patch, namespace=namespace, patch_type=PatchType.MERGE)
    assert both.data == {"a": "1", "b": "2"}
    watched = client.watch(ConfigMap, namespace=namespace, resource_version=stale)
    assert [next(iter(watched))[0] for _ in range(2)] == ["MODIFIED", "MODIFIED"]
    with pytest.raises(ApiError) as refused:
        client.get(Pod, "a", namespace=namespace)
    assert refused.value.status.code == 404
