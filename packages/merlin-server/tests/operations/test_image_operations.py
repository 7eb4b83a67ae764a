"""Building a version's image as an operation: options, cancelling, trying again, builders."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from merlin.artifacts.memory import MemoryStore
from merlin.artifacts.store import ArtifactStore
from merlin.errors import Kind, MerlinError
from merlin.progress import Progress, Silent
from merlin_images.builders.port import BuildRequest, BuiltImage, RunOptions
from merlin_images.registry.memory import MemoryRegistry
from merlin_images.registry.reference import Reference
from merlin_server.images.builders import ChosenBuilder, environment_builders, job_builders
from merlin_server.images.builds import Builds
from merlin_server.images.existence import ExistenceCheck
from merlin_server.images.options import BuildOptions
from merlin_server.images.reconcile import CANCELLED
from merlin_server.images.service import ImageService
from merlin_server.models.store import ModelRow
from merlin_server.operations.reconciler import Cancelled
from merlin_server.settings import EnvironmentSettings, ImageSettings, Settings
from tests.image_jobs.images import asked


class Locations:
    """Every artifact URI is a key of one store."""

    def locate(self, artifact_uri: str) -> tuple[ArtifactStore, str]:
        return MemoryStore(), artifact_uri


class NoWheel(MerlinError):
    code = "no_wheel"
    kind = Kind.INVALID


class Remote:
    """A builder whose builds go on elsewhere; ``seen`` are the requests it got."""

    def __init__(self, world: Any) -> None:
        self._local = world.builder
        self.seen: list[BuildRequest] = []
        self.cancelled: list[str] = []

    def find(self, request: BuildRequest) -> Reference | None:
        found: Reference | None = self._local.find(request)
        return found

    def build(self, request: BuildRequest, progress: Progress) -> BuiltImage:
        self.seen.append(request)
        built: BuiltImage = self._local.build(request, progress)
        return built

    def cancel(self, request: BuildRequest) -> bool:
        self.cancelled.append(str(request.target))
        return True


@pytest.fixture
def world(new_world: Any) -> Any:
    made = new_world()
    made.local, made.builder = made.builder, Remote(made)
    return made


def builds(world: Any) -> Builds:
    existence = ExistenceCheck(lambda _: MemoryRegistry())
    return Builds(world.user, "registry:5000/ml", existence, lambda: None)


def model_of(world: Any) -> int:
    return int(world.rows(select(ModelRow))[0].id)


def test_options_reach_the_builder_after_a_restart(world: Any) -> None:
    version = world.new_version()
    builds(world).request(model_of(world), version, BuildOptions("", "2", "4Gi", 1))
    world.settle(world.engine("started later"))
    [request] = world.builder.seen
    assert (request.run.cpu, request.run.memory, request.run.retries) == ("2", "4Gi", 1)
    assert world.image(version).state == "succeeded"


def test_a_build_that_failed_is_tried_again_when_asked(world: Any) -> None:
    def no_wheel(request: BuildRequest) -> None:
        raise NoWheel("No wheel of nosuch==1.")

    version = world.new_version()
    world.local.before = no_wheel
    builds(world).request(model_of(world), version)
    world.settle(world.engine())
    assert world.image(version).state == "failed"
    world.local.before = lambda _: None
    builds(world).request(model_of(world), version)
    world.settle(world.engine())
    row = world.image(version)
    assert (row.state, row.message) == ("succeeded", "")


def test_cancelling_ends_the_build_wherever_it_runs(world: Any) -> None:
    version = world.new_version()
    server = builds(world)

    def somebody_cancels(request: BuildRequest) -> None:
        server.cancel(model_of(world), version)
        raise Cancelled("A newer request came in.")

    world.local.before = somebody_cancels
    server.request(model_of(world), version)
    world.settle(world.engine())
    row = world.image(version)
    assert (row.state, row.message, row.cancelled) == ("failed", CANCELLED, False)
    assert len(world.builder.cancelled) == 1
    world.local.before = lambda _: None
    server.request(model_of(world), version)
    world.settle(world.engine())
    assert world.image(version).state == "succeeded"


def test_a_cancel_survives_a_server_that_dies(world: Any, killed: Any) -> None:
    version = world.new_version()
    builds(world).request(model_of(world), version)
    builds(world).cancel(model_of(world), version)
    for after in range(1, 4):
        world.switch.left = after
        with pytest.raises(killed):
            world.engine(f"dies {after}").step()
        world.switch.left = -1
        world.clock.advance(60)
        if world.image(version).state == "failed":
            break
    world.settle(world.engine("lives"))
    assert world.image(version).message == CANCELLED
    assert world.builder.seen == []


def test_a_deploy_says_where_and_how_large(world: Any) -> None:
    version = world.new_version()
    service = ImageService(
        world.user, world.builder, Locations(), Settings(), "registry:5000/ml", clock=world.clock
    )
    options = BuildOptions.asked({"memory_request": "6Gi"}, environment="staging")
    service.ensure(model_of(world), version, None, options)
    [request] = world.builder.seen
    assert (request.run.environment, request.run.memory) == ("staging", "6Gi")
    assert BuildOptions.stored(world.image(version).options) == options


def test_builders_of_environments() -> None:
    settings = Settings(
        images=ImageSettings(model_builders={"fraud/odd": "buildkit"}),
        environments=[
            EnvironmentSettings(name="local", is_default=True),
            EnvironmentSettings(name="production", image_builder="kaniko"),
        ],
    )
    assert environment_builders(settings) == {"production": "kaniko"}
    assert job_builders(settings) == ["buildkit", "kaniko"]
    only = EnvironmentSettings(name="a", is_default=True, image_builder="kaniko")
    assert environment_builders(Settings(environments=[only])) == {"a": "kaniko", "": "kaniko"}


@pytest.mark.parametrize(
    ("environment", "model", "expected"),
    [
        ("", "plain", "native"),
        ("local", "plain", "native"),
        ("production", "plain", "kaniko"),
        ("production", "odd", "buildkit"),
        ("", "odd", "buildkit"),
    ],
)
def test_the_model_decides_before_the_environment(
    world: Any, environment: str, model: str, expected: str
) -> None:
    builders: Any = {name: Remote(world) for name in ("native", "kaniko", "buildkit")}
    chosen = ChosenBuilder(builders, "native", {"fraud/odd": "buildkit"}, {"production": "kaniko"})
    request = asked(model_name=model, run=RunOptions(project="fraud", environment=environment))
    chosen.build(request, Silent())
    assert [name for name, builder in builders.items() if builder.seen] == [expected]
    assert chosen.cancel(request)
    assert builders[expected].cancelled
