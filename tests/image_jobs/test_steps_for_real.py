"""The commands of the fetch step and of the push step, run as the Job says them: as processes that
have the step's environment and mounted files and nothing else, from a bucket to a registry.

The step between is not Kaniko, whose executable is not here: it makes its image of the base that
was fetched, where Kaniko would look for it.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from lightkube import KubeConfig
from lightkube.resources.core_v1 import Pod

from merlin.artifacts.s3 import open_s3
from merlin.progress import Silent
from merlin_images.builders.jobs.builder import JobBuilder
from merlin_images.builders.jobs.cluster import Cluster
from merlin_images.builders.jobs.options import RegistryAccess, SecretFile, StoreAccess
from merlin_images.builders.port import ModelSource
from merlin_images.image.locations import locate
from merlin_images.registry.copy import copy_image
from merlin_images.registry.reference import parse_reference
from tests.blob_servers import CannotInstall, Service, moto
from tests.fake_kubernetes import FakeCluster
from tests.fake_kubernetes.api import Options
from tests.fake_kubernetes.outcomes import Executes, Exits, Step
from tests.fake_kubernetes.resources import SECRETS, Target
from tests.image_jobs.conftest import NAMESPACE, new_driver
from tests.image_jobs.platforms import Platform, request
from tests.image_jobs.running_steps import there
from tests.peers import missing
from tests.registry_servers import RegistryPlace, docker_with_password
from tests.small_base import write_base

MERLIN = Path(sys.executable).parent / "merlin"
MODEL = {
    "MLmodel": b"flavors: {sklearn: {}}\n",
    "model.joblib": b"weights",
    "conda.yaml": b"dependencies: [python=3.11, {pip: [cloudpickle==3.1.1]}]",
}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    folder = tmp_path / "s3"
    folder.mkdir()
    try:
        with moto(folder) as running:
            running.make_bucket("models")
            yield running
    except CannotInstall as error:
        missing(str(error))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[RegistryPlace]:
    folder = tmp_path / "registry"
    folder.mkdir()
    with docker_with_password(folder) as running:
        yield running


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeCluster]:
    with FakeCluster(folder=tmp_path / "node", back_off_seconds=0) as cluster:
        cluster.create_namespace(NAMESPACE)
        with cluster.acting():
            yield cluster


def plant(fake: FakeCluster, name: str, files: Mapping[str, str]) -> SecretFile:
    data = {key: base64.b64encode(text.encode()).decode() for key, text in files.items()}
    body = {"metadata": {"name": name}, "data": data}
    fake.api.create(Target(SECRETS, NAMESPACE), json.dumps(body), Options("test"))
    return SecretFile(name)


def as_process(step: Step) -> Exits:
    places = {**step.mounts, "/dev/termination-log": step.termination_log}
    program, *arguments = (there(word, places) for word in step.command)
    assert program == "merlin"
    home = step.termination_log.parent / f"home-of-{step.name}"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [str(MERLIN), *arguments],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            **{name: there(value, places) for name, value in step.environment.items()},
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return Exits(done.returncode, log=done.stdout + done.stderr)


def image_of_the_base(step: Step) -> Exits:
    work = step.mounts["/workspace"]
    context = {str(file.relative_to(work / "context")) for file in (work / "context").rglob("*")}
    assert {"Dockerfile", "requirements.txt", "model/MLmodel", "model/model.joblib"} <= context
    [base] = [word for word in step.command if word.startswith("--build-arg=BASE_IMAGE=")]
    shutil.copytree(work / "base" / base.rpartition("@")[2], work / "image")
    return Exits()


def test_a_model_in_a_bucket_becomes_an_image_in_a_registry(
    fake: FakeCluster, service: Service, place: RegistryPlace, tmp_path: Path
) -> None:
    store = open_s3("s3://models/platform", service.environ)
    for name, content in MODEL.items():
        store.write(f"7/model/{name}", [content])
    registry = place.look("")
    home = str(place.settings["prefix"])
    base = parse_reference(f"{home}/base:3.11")
    source, named = locate(write_base(tmp_path / "base"), lambda _: registry)
    copy_image(source, named, registry, base, Silent())
    login = Path(place.environ["DOCKER_CONFIG"]) / "config.json"
    keys = "[default]\naws_access_key_id = key\naws_secret_access_key = canary-secret\n"
    options = Platform("kaniko", "docker", "s3", identity=False).options(
        retries=0,
        registry=RegistryAccess(
            "docker",
            plant(fake, "registry-login", {"config.json": login.read_text()}),
            insecure=True,
        ),
        store=StoreAccess("s3", plant(fake, "aws-credentials", {"credentials": keys})),
        environment={"AWS_ENDPOINT_URL": service.url, "AWS_REGION": "us-east-1"},
    )
    fake.kubelet.play("fetch", Executes(as_process))
    fake.kubelet.play("build", Executes(image_of_the_base))
    fake.kubelet.play("push", Executes(as_process))
    config = KubeConfig.from_dict(fake.kubeconfig()).get()
    assert config
    cluster = Cluster(config, NAMESPACE, trust_env=False)
    builder = JobBuilder(
        new_driver(cluster), options, lambda _: registry, default_base=f"{home}/base:{{python}}"
    )
    asked = request(f"{home}/fraud", model=ModelSource(store, "7/model"))

    built = builder.build(asked, Silent())

    with fake.client() as client:
        [pod] = client.list(Pod, namespace=NAMESPACE)
        seen = json.dumps(pod.to_dict())
    statuses = pod.to_dict()["status"]["containerStatuses"]
    message = statuses[0]["state"]["terminated"]["message"].strip()
    # What push said, what the registry answers for both tags now, and what the report says.
    found = [registry.resolve(asked.target), registry.resolve(built.reference)]
    assert [each.digest for each in found if each] == [message, message]
    assert built.reference.digest == message
    assert "canary-secret" not in seen
    assert builder.find(asked) == built.reference
    cluster.close()


def test_a_model_that_is_not_there_is_said_by_the_step_that_looks(
    service: Service, tmp_path: Path
) -> None:
    step = Step(
        name="fetch",
        image="",
        command=["merlin", "image", "context", "--output", "json", "--python", "3.11"]
        + ["--model-url", "s3://models/nowhere", "--to", "/workspace/context"],
        environment=dict(service.environ),
        mounts={"/workspace": tmp_path},
        termination_log=tmp_path / "message",
    )
    ended = as_process(step)
    assert ended.code == 65, "one of the codes after which a Job is not tried again"
    assert "model_missing" in ended.log
    assert "s3://models/nowhere" in ended.log
    assert not (tmp_path / "context").exists()
