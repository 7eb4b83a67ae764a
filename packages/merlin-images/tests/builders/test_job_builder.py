"""The builder whose work is done by Jobs: the contract, with native steps that really run, what it
asks the registry before and after, and that no secret is seen anywhere."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lightkube import KubeConfig
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Event, Pod

from merlin.artifacts.local import LocalStore
from merlin.artifacts.memory import MemoryStore
from merlin.artifacts.store import ArtifactStore
from merlin.progress import Silent
from merlin_images.builders.contract import BuilderContract, Steps
from merlin_images.builders.jobs.builder import JobBuilder, NoBaseImage
from merlin_images.builders.jobs.cluster import Cluster
from merlin_images.builders.jobs.errors import BuildImageMissing, BuildJobError
from merlin_images.builders.jobs.options import JobOptions
from merlin_images.image.errors import BaseNotFound
from merlin_images.registry.embedded.storage import RegistryStorage
from merlin_images.registry.errors import RegistryDenied
from merlin_images.registry.memory import MemoryRegistry
from merlin_images.registry.open import open_registry
from merlin_images.registry.port import Descriptor, ImageRegistry
from merlin_images.registry.reference import Reference, parse_reference
from tests.fake_kubernetes import FakeCluster
from tests.fake_kubernetes.api import Options
from tests.fake_kubernetes.outcomes import Executes, Exits, Step
from tests.fake_kubernetes.resources import SECRETS, Target
from tests.image_jobs.conftest import NAMESPACE, new_driver
from tests.image_jobs.images import asked, push
from tests.image_jobs.platforms import AMAZON, TOOLS, Platform
from tests.image_jobs.running_steps import running
from tests.registry_servers import serving

MakeCache = Callable[[], Path]
CANARY = "canary-7f3a"
PLATFORM = Platform("kaniko", "docker", "s3", identity=False)
BASE = "registry.example.com/merlin/base:{python}"


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeCluster]:
    with FakeCluster(folder=tmp_path / "node", back_off_seconds=0) as cluster:
        cluster.create_namespace(NAMESPACE)
        with cluster.acting():
            yield cluster


@pytest.fixture
def cluster(fake: FakeCluster) -> Iterator[Cluster]:
    config = KubeConfig.from_dict(fake.kubeconfig()).get()
    assert config
    opened = Cluster(config, NAMESPACE, trust_env=False)
    yield opened
    opened.close()


class TestNativeJobs(BuilderContract):
    @pytest.fixture
    def address(self, tmp_path: Path) -> Iterator[str]:
        with serving(RegistryStorage(tmp_path / "registry")) as address:
            yield address

    @pytest.fixture
    def registry(self, address: str) -> ImageRegistry:
        return open_registry(address)

    @pytest.fixture
    def repository(self, address: str) -> Reference:
        return Reference(address, "team/fraud")

    @pytest.fixture
    def store(self, tmp_path: Path) -> ArtifactStore:
        return LocalStore(tmp_path / "models")

    @pytest.fixture
    def base(self, small_base: str) -> str:
        return small_base

    @pytest.fixture
    def builder(self, fake: FakeCluster, cluster: Cluster, make_cache: MakeCache) -> JobBuilder:
        fake.kubelet.play("build", running(make_cache))
        options = JobOptions(tools_image=TOOLS, kind="native", retries=0)
        return JobBuilder(new_driver(cluster), options, open_registry)

    @pytest.fixture
    def another_builder(self, builder: JobBuilder, cluster: Cluster) -> JobBuilder:
        options = JobOptions(tools_image=TOOLS, kind="native", retries=0)
        return JobBuilder(new_driver(cluster), options, open_registry)


class Registry(MemoryRegistry):
    """May forget what it was told for a while, and may refuse writes."""

    def __init__(self) -> None:
        super().__init__()
        self.blind = 0
        self.read_only = False

    def resolve(self, reference: Reference) -> Descriptor | None:
        found = super().resolve(reference)
        if found and "merlin/base" not in reference.repository and self.blind:
            self.blind -= 1
            return None
        return found

    def write_manifest(self, reference: Reference, media_type: str, body: bytes) -> Descriptor:
        if self.read_only:
            raise RegistryDenied("Push is not allowed.")
        return super().write_manifest(reference, media_type, body)


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    push(made, parse_reference("registry.example.com/merlin/base:3.11"), "base")
    return made


def pushes(registry: MemoryRegistry) -> Executes:
    """A step that pushes an image to every destination, as ``merlin image push`` would."""

    def run(step: Step) -> Exits:
        places = [step.command[i + 1] for i, word in enumerate(step.command) if word == "--to"]
        digests = {push(registry, parse_reference(place), "built") for place in places}
        return Exits(message=digests.pop())

    return Executes(run)


def builder_of(cluster: Cluster, registry: ImageRegistry, **changes: Any) -> JobBuilder:
    return JobBuilder(
        new_driver(cluster),
        PLATFORM.options(retries=0, **changes),
        lambda _: registry,
        default_base=BASE,
        pause=lambda _: None,
    )


@pytest.fixture
def builder(fake: FakeCluster, cluster: Cluster, registry: Registry) -> JobBuilder:
    for name in ("registry-login", "aws-credentials"):
        plant_secret(fake, name)
    fake.kubelet.play("push", pushes(registry))
    return builder_of(cluster, registry)


def plant_secret(fake: FakeCluster, name: str) -> None:
    keys = ("config.json", "credentials")
    data = {key: base64.b64encode(CANARY.encode()).decode() for key in keys}
    body = {"metadata": {"name": name}, "data": data}
    fake.api.create(Target(SECRETS, NAMESPACE), json.dumps(body), Options("test"))


def made_jobs(fake: FakeCluster) -> int:
    return fake.faults.seen.count(("create", "jobs"))


def test_kaniko_jobs_push_and_report_the_digest(
    builder: JobBuilder, registry: Registry, fake: FakeCluster
) -> None:
    steps = Steps()
    built = builder.build(asked(), steps)
    named = registry.resolve(asked().target)
    assert named
    assert (built.reference.digest, built.reused) == (named.digest, False)
    assert built.reference.tag.startswith("7-")
    assert {"Fetch the model", "Build the image", "Push the image"} <= {*steps.finished}
    assert builder.build(asked(), Steps()).reused
    assert made_jobs(fake) == 1


def test_a_registry_that_is_slow_to_tell_is_asked_again(
    builder: JobBuilder, registry: Registry
) -> None:
    registry.blind = 4
    assert builder.build(asked(), Silent()).reference.digest


def test_a_digest_that_the_registry_never_has_is_an_error(
    fake: FakeCluster, builder: JobBuilder
) -> None:
    fake.kubelet.play("push", Exits(message=f"sha256:{'0' * 64}"))
    with pytest.raises(BuildImageMissing, match=r"ended well, and .* is not in the registry"):
        builder.build(asked(), Silent())


def test_an_image_that_was_removed_is_built_again(
    fake: FakeCluster, cluster: Cluster, builder: JobBuilder
) -> None:
    """Merlin believed the Job that had succeeded (W112)."""
    builder.build(asked(), Silent())
    empty = Registry()
    push(empty, parse_reference("registry.example.com/merlin/base:3.11"), "base")
    fake.kubelet.play("push", pushes(empty))
    again = builder_of(cluster, empty).build(asked(), Silent())
    assert not again.reused
    assert made_jobs(fake) == 2


def test_changed_artifacts_never_get_the_old_image(fake: FakeCluster, builder: JobBuilder) -> None:
    """Merlin knew images by the version's number alone (W18)."""
    store = MemoryStore("s3://models")
    first = builder.build(asked(store), Silent())
    store.write("7/a1b2/artifacts/model/weights", [b"new"])
    second = builder.build(asked(store), Silent())
    assert first.reference.tag != second.reference.tag
    assert made_jobs(fake) == 2


def test_a_server_without_push_rights_needs_none(builder: JobBuilder, registry: Registry) -> None:
    built = builder.build(asked(), Silent())
    push(registry, asked().target, "another image under the version's tag")
    registry.read_only = True
    again = builder.build(asked(), Silent())
    assert again.reference.digest == built.reference.digest
    assert "may not be moved" in again.notes[-1]


def test_a_base_that_is_not_there_is_named(
    builder: JobBuilder, cluster: Cluster, registry: Registry, fake: FakeCluster
) -> None:
    with pytest.raises(BaseNotFound, match=r"merlin/base:3\.12"):
        builder.build(asked(python="3.12"), Silent())
    bare = JobBuilder(new_driver(cluster), PLATFORM.options(), lambda _: registry)
    with pytest.raises(NoBaseImage, match=r"Python 3\.11"):
        bare.build(asked(), Silent())
    assert made_jobs(fake) == 0


def test_cancelling_ends_the_job(fake: FakeCluster, builder: JobBuilder) -> None:
    builder.build(asked(), Silent())
    assert builder.cancel(asked())
    assert not builder.cancel(asked())
    with fake.client() as client:
        assert list(client.list(Job, namespace=NAMESPACE)) == []


@pytest.mark.parametrize("failing", ["", "fetch", "build", "push"])
def test_a_planted_secret_is_seen_nowhere(
    fake: FakeCluster, builder: JobBuilder, failing: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen: dict[str, Step] = {}

    def run(step: Step) -> Exits:
        seen[step.name] = step
        if step.name == failing:
            return Exits(1, log=f"could not sign in to https://user:{CANARY}@registry/\n")
        return Exits(message=f"sha256:{'0' * 64}" if step.name == "push" else "")

    for name in ("fetch", "build", "push"):
        fake.kubelet.play(name, Executes(run))
    with pytest.raises(BuildJobError) as caught:
        builder.build(asked(), Silent())
    told = [str(caught.value), json.dumps(caught.value.to_dict()), caplog.text]
    with fake.client() as client:
        for kind in (Job, Event):
            told += [json.dumps(i.to_dict()) for i in client.list(kind, namespace=NAMESPACE)]
        told += [json.dumps(pod.to_dict()["spec"]) for pod in client.list(Pod, namespace=NAMESPACE)]
    assert all(CANARY not in text for text in told)
    read = {
        name: any(
            CANARY in file.read_text()
            for folder in step.mounts.values()
            for file in folder.rglob("*")
            if file.is_file()
        )
        for name, step in seen.items()
    }
    # The secret is there for those who need it, and only for them.
    assert read == {name: name != "build" for name in read}
    assert AMAZON.name not in json.dumps([seen["build"].command] if "build" in seen else [])
