"""A server whose images are built by Jobs: settings, the choice of a builder, metrics, janitor."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from lightkube import KubeConfig
from lightkube.resources.batch_v1 import Job
from prometheus_client import CollectorRegistry, generate_latest

from merlin.artifacts.memory import MemoryStore
from merlin.progress import Silent
from merlin_images.builders.jobs.cluster import Cluster
from merlin_images.builders.jobs.errors import BuildJobError, JobOptionsInvalid
from merlin_images.builders.jobs.janitor import remove_old_jobs
from merlin_images.builders.jobs.logs import read_lines
from merlin_images.builders.jobs.manifest import job_manifest
from merlin_images.builders.port import StreamsLogs
from merlin_images.registry.memory import MemoryRegistry
from merlin_server.images.builders import job_options, open_builder
from merlin_server.images.janitor import JobJanitor
from merlin_server.images.metering import BuildMetrics
from merlin_server.settings import Settings
from tests.fake_kubernetes import FakeCluster
from tests.fake_kubernetes.outcomes import Exits, Hangs
from tests.image_jobs.images import asked
from tests.image_jobs.platforms import Platform, plan

JOBS: dict[str, Any] = {
    "tools_image": "registry.example.com/tools:1",
    "builder_image": "registry.example.com/kaniko:1",
    "registry_secret": "login",
    "retries": 0,
}


@pytest.fixture
def fake() -> Any:
    with FakeCluster(back_off_seconds=0) as cluster:
        cluster.create_namespace("mlp")
        yield cluster


@pytest.fixture
def cluster(fake: FakeCluster) -> Any:
    config = KubeConfig.from_dict(fake.kubeconfig()).get()
    assert config
    opened = Cluster(config, "mlp", trust_env=False)
    yield opened
    opened.close()


def settings(**images: Any) -> Settings:
    return Settings(images=images)


def test_builders_are_chosen_by_model_and_counted(fake: FakeCluster, tmp_path: Path) -> None:
    kubeconfig = fake.write_kubeconfig(tmp_path / "kubeconfig")
    told = settings(
        builder="native-job",
        model_builders={"risk/other": "native"},
        jobs={**JOBS, "kubeconfig": kubeconfig, "registry_secret": ""},
    )
    fake.kubelet.play("build", Exits(65, log='{"error": "No model.", "code": "model_missing"}\n'))
    metrics = BuildMetrics()
    with ExitStack() as closing, fake.acting():
        builder = open_builder(
            told,
            lambda _: MemoryRegistry(),
            cache=tmp_path / "cache",
            locks=MemoryStore(),
            metrics=metrics,
            closing=closing,
        )
        with pytest.raises(BuildJobError, match=r"The step build failed: No model\."):
            builder.build(asked(), Silent())
        assert fake.faults.seen.count(("create", "jobs")) == 1
        assert isinstance(builder, StreamsLogs)
        told: dict[tuple[str, str], int] = {}
        lines = [line.text for line in builder.log(asked(), told, follow=True)]
        assert lines == ['{"error": "No model.", "code": "model_missing"}']
        assert list(builder.log(asked(), told, follow=True)) == []
        assert list(builder.log(asked(model_name="other"), {}, follow=True)) == []
        # The native builder says in this process that there is no environment file.
        with pytest.raises(Exception, match=r"conda\.yaml"):
            builder.build(asked(model_name="other"), Silent())
        assert fake.faults.seen.count(("create", "jobs")) == 1
    registry = CollectorRegistry()
    registry.register(metrics)
    counted = generate_latest(registry).decode().splitlines()
    labels = 'model="fraud",model_type="pyfunc",model_version="7",project="risk"'
    assert f'merlin_image_builder_attempts{{{labels},python_version="3.11"}} 1.0' in counted
    labels = f'{labels},python_version="3.11",result="failed"'
    assert f"merlin_image_builder_results{{{labels}}} 1.0" in counted


def test_settings_become_options() -> None:
    told = settings(
        builder="kaniko",
        build_timeout_seconds=1200,
        jobs={
            **JOBS,
            "store_type": "s3",
            "store_secret": "aws",
            "node_selector": {"pool": "builds"},
            "kaniko_arguments": ["--snapshot-mode=redo"],
        },
    )
    options = job_options(told, "kaniko")
    assert (options.kind, options.deadline_seconds, options.retries) == ("kaniko", 1200, 0)
    assert (options.registry.secret.name, options.store.secret.name) == ("login", "aws")
    assert options.node_selector == {"pool": "builds"}


def test_native_jobs_share_locks_where_they_can() -> None:
    def locks(url: str, **jobs: Any) -> str:
        told = Settings(artifacts_url=url, images={"builder": "native-job", "jobs": jobs})
        return str(job_options(told, "native-job").locks_url)

    assert locks("gs://models/merlin") == "gs://models/merlin"
    assert locks("gs://models/merlin", share_locks=False) == ""
    assert locks("file:///models") == ""


def test_what_cannot_work_is_said_at_the_start(fake: FakeCluster, tmp_path: Path) -> None:
    kubeconfig = fake.write_kubeconfig(tmp_path / "kubeconfig")
    jobs = {**JOBS, "kubeconfig": kubeconfig, "kaniko_arguments": ["--cache-repo=canary.example"]}
    with ExitStack() as closing, pytest.raises(JobOptionsInvalid, match="--cache-repo"):
        open_builder(
            settings(builder="kaniko", jobs=jobs),
            lambda _: MemoryRegistry(),
            cache=tmp_path,
            locks=MemoryStore(),
            metrics=BuildMetrics(),
            closing=closing,
        )


KANIKO = Platform("kaniko", "docker", "none", identity=True)


def names(fake: FakeCluster) -> set[str]:
    with fake.client() as client:
        return {str(job.metadata.name) for job in client.list(Job, namespace="mlp")}


def test_the_janitor_removes_only_our_old_jobs_that_ended(
    fake: FakeCluster, cluster: Cluster
) -> None:
    # Longer than we keep them, so that the cluster itself removes none.
    options = KANIKO.options(kept_seconds=10**6)
    ours, running, other = (
        job_manifest(plan(tag=f"7-{tag}"), options) for tag in ("a" * 12, "b" * 12, "c" * 12)
    )
    other["metadata"]["labels"] = {"orchestrator": "merlin", "gojek.com/orchestrator": "merlin"}
    for job in (ours, other):
        cluster.create(job)
    fake.settle()
    fake.kubelet.play("build", Hangs())
    running["spec"]["activeDeadlineSeconds"] = 10**6
    cluster.create(running)
    fake.settle()
    kept = replace(options, kept_seconds=3600)

    def clean(after: int, *, dry_run: bool = False) -> list[str]:
        now = fake.now() + timedelta(seconds=after)
        done = remove_old_jobs(cluster, kept, now=now, monotonic=lambda: 0.0, dry_run=dry_run)
        return [removal.job for removal in done]

    mine = ours["metadata"]["name"]
    assert clean(3599) == []
    assert clean(3600, dry_run=True) == [mine]
    assert mine in names(fake)
    assert clean(3600) == [mine]
    fake.settle()
    assert names(fake) == {running["metadata"]["name"], other["metadata"]["name"]}


def test_the_janitor_counts_and_goes_on(fake: FakeCluster, cluster: Cluster) -> None:
    for tag in ("a" * 12, "b" * 12):
        cluster.create(job_manifest(plan(tag=f"7-{tag}"), KANIKO.options(kept_seconds=10**6)))
    fake.settle()
    fake.faults.answer(503, verb="delete", resource="jobs")
    metrics = BuildMetrics()
    later = fake.now() + timedelta(days=3)
    janitor = JobJanitor(
        lambda: remove_old_jobs(cluster, KANIKO.options(), now=later, monotonic=lambda: 0.0),
        metrics,
    )
    janitor.clean()
    assert metrics.delete_errors._value.get() == 1
    assert len(names(fake)) == 1
    fake.faults.answer(503, verb="list", resource="jobs")
    janitor.clean()
    janitor.clean()
    assert metrics.delete_errors._value.get() == 2
    assert names(fake) == set()


def test_logs_are_told_in_order_and_once(fake: FakeCluster, cluster: Cluster) -> None:
    job = job_manifest(plan(), KANIKO.options())
    name = job["metadata"]["name"]
    assert list(read_lines(cluster, name, {}, follow=True)) == []
    fake.kubelet.play("fetch", Exits(log="fetched\n"))
    fake.kubelet.play("build", Hangs(log="at https://user:canary@index/\n"))
    fake.kubelet.play("push", Exits(log="pushed\n"))
    cluster.create(job)
    with fake.acting():
        lines = []
        for line in read_lines(cluster, name, {}, follow=True, pause=lambda _: None):
            lines.append((line.step, line.text))
            if line.step == "build":
                fake.cut_connections()
                fake.kubelet.release("build", Exits(log="built\n"))
    assert lines == [
        ("fetch", "fetched"),
        ("build", "at https://index/"),
        ("build", "built"),
        ("push", "pushed"),
    ]
