"""The way of a deploy, step by step, on virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from merlin.errors import Kind, MerlinError
from merlin_server.deployers.memory import Outcome
from merlin_server.deployers.port import RevisionSpec


class Refused(MerlinError):
    code = "refused"
    kind = Kind.UNAVAILABLE


class NoWheel(MerlinError):
    code = "no_wheel"
    kind = Kind.INVALID


def by_env(spec: RevisionSpec) -> Outcome:
    return Outcome(spec.env.get("OUTCOME", "ready"))


def test_a_deploy_ends_running_with_an_address(world: Any) -> None:
    endpoint = world.deploy(world.new_version(), COLOUR="red")
    world.settle(world.engine())
    row = world.endpoint(endpoint)
    assert (row.status, row.message, row.live_revision) == ("running", "", 1)
    assert row.address == world.cluster.revisions[f"{endpoint}.r1"].address
    assert world.cluster.revisions[f"{endpoint}.r1"].spec.env == {"COLOUR": "red"}
    assert world.deployments(endpoint) == [(1, "running", "")]
    image = world.image(1)
    assert (image.state, image.digest[:7]) == ("succeeded", "sha256:")
    assert image.steps[0]["name"] == "build layers"


def test_a_redeploy_switches_and_stops_the_old_revision(world: Any) -> None:
    endpoint = world.deploy(world.new_version())
    engine = world.engine()
    world.settle(engine)
    first = world.endpoint(endpoint).address
    world.redeploy(endpoint, COLOUR="blue")
    while world.endpoint(endpoint).address == first:
        assert f"{endpoint}.r1" in world.cluster.running()
        assert engine.step()
    world.settle(engine)
    assert world.cluster.running() == [f"{endpoint}.r2"]
    assert [d[:2] for d in world.deployments(endpoint)] == [(1, "terminated"), (2, "running")]


def test_a_failed_redeploy_leaves_the_old_one_untouched(world: Any) -> None:
    world.cluster.decide = by_env
    endpoint = world.deploy(world.new_version())
    engine = world.engine()
    world.settle(engine)
    before = world.endpoint(endpoint)
    world.redeploy(endpoint, OUTCOME="crashes")
    world.settle(engine)
    row = world.endpoint(endpoint)
    assert (row.status, row.live_revision, row.address) == ("running", 1, before.address)
    assert "cannot start" in row.message
    assert world.cluster.running() == list(world.cluster.revisions) == [f"{endpoint}.r1"]
    revision, status, error = world.deployments(endpoint)[1]
    assert (revision, status) == (2, "failed")
    assert "CrashLoopBackOff" in error


def test_a_first_deploy_that_hangs_fails_within_its_deadline(world: Any) -> None:
    world.cluster.decide = lambda _spec: Outcome.HANGS
    endpoint = world.deploy(world.new_version())
    seconds = world.settle(world.engine())
    row = world.endpoint(endpoint)
    assert row.status == "failed"
    assert "not ready within 300 s" in row.message
    assert row.conditions[0]["reason"] == "Starting"
    assert 300 <= seconds < 310
    assert not world.cluster.revisions


def test_what_refuses_for_now_is_tried_again(world: Any) -> None:
    left = [Refused("No route."), Refused("No route.")]
    world.cluster.decide = lambda _spec: left.pop() if left else Outcome.READY
    endpoint = world.deploy(world.new_version())
    assert 1 <= world.settle(world.engine()) < 10
    assert world.endpoint(endpoint).status == "running"


def test_what_refuses_for_ever_fails_at_the_deadline_and_says_why(world: Any) -> None:
    world.cluster.decide = lambda _spec: Refused("No route to the cluster.")
    endpoint = world.deploy(world.new_version())
    engine = world.engine()
    seconds = world.settle(engine)
    assert 900 < seconds < 1000
    row = world.endpoint(endpoint)
    assert row.status == "failed"
    assert "No route to the cluster." in row.message


def test_a_build_error_is_final_and_recorded_with_code_and_hint(world: Any) -> None:
    def refuse(_request: object) -> None:
        raise NoWheel("torch has no wheel.", hint="Pin another version.", package="torch")

    world.builder.before = refuse
    endpoint = world.deploy(world.new_version())
    assert world.settle(world.engine()) < 1
    assert world.endpoint(endpoint).message == "torch has no wheel. Pin another version."
    image = world.image(1)
    assert image.state == "failed"
    assert image.report["error"]["code"] == "no_wheel"
    assert image.steps[0]["failed"]


def test_undeploy_stops_everything_and_can_be_taken_back(world: Any) -> None:
    endpoint = world.deploy(world.new_version())
    engine = world.engine()
    world.settle(engine)
    world.undeploy(endpoint)
    world.settle(engine)
    row = world.endpoint(endpoint)
    assert (row.status, row.address, row.live_revision) == ("terminated", "", 0)
    assert not world.cluster.revisions
    world.redeploy(endpoint)
    world.settle(engine)
    assert world.endpoint(endpoint).status == "running"
    assert [d[1] for d in world.deployments(endpoint)] == ["terminated", "running"]


def test_undeploy_cancels_a_deploy_in_progress(world: Any) -> None:
    endpoint = world.deploy(world.new_version())

    def undeploy(_spec: RevisionSpec) -> Outcome:
        world.undeploy(endpoint)
        engine.notify()
        return Outcome.HANGS

    world.cluster.decide = undeploy
    engine = world.engine()
    assert world.settle(engine) < 60
    assert world.endpoint(endpoint).status == "terminated"
    assert not world.cluster.revisions
    assert [d[1] for d in world.deployments(endpoint)] == ["terminated"]


def test_a_restart_brings_the_live_revision_up_again_as_it_was(world: Any) -> None:
    world.cluster.decide = by_env
    endpoint = world.deploy(world.new_version(), COLOUR="red")
    engine = world.engine()
    world.settle(engine)
    world.redeploy(endpoint, OUTCOME="crashes")
    world.settle(engine)
    world.cluster.lose_processes()
    world.builder.images.clear()
    builds = world.builder.builds
    world.resume()
    row = world.endpoint(endpoint)
    assert row.address == ""
    assert row.conditions[0]["reason"] == "Restarting"
    world.settle(world.engine("two"))
    row = world.endpoint(endpoint)
    assert (row.status, row.revision, row.live_revision) == ("running", 2, 1)
    assert row.address == world.cluster.revisions[f"{endpoint}.r1"].address
    assert world.cluster.revisions[f"{endpoint}.r1"].spec.env == {"COLOUR": "red"}
    assert "cannot start" in row.message
    assert world.builder.builds == builds


def test_a_live_revision_that_will_not_restart_says_so(world: Any) -> None:
    endpoint = world.deploy(world.new_version())
    world.settle(world.engine())
    world.cluster.lose_processes()
    world.cluster.decide = lambda _spec: Outcome.CRASHES
    world.resume()
    world.settle(world.engine("two"))
    row = world.endpoint(endpoint)
    assert (row.status, row.address, row.live_revision) == ("running", "", 1)
    assert row.conditions[0]["reason"] == "CrashLoopBackOff"
    assert "could not be started again" in row.message
    world.cluster.decide = lambda _spec: Outcome.READY
    world.redeploy(endpoint)
    assert world.settle(world.engine("two")) < 10
    assert world.endpoint(endpoint).message == ""
    assert world.cluster.running() == [f"{endpoint}.r2"]


def test_resume_stops_strays_and_spares_what_is_live(world: Any) -> None:
    endpoint = world.deploy(world.new_version())
    world.settle(world.engine())
    revisions = world.cluster.revisions
    revisions["gone.r7"] = revisions[f"{endpoint}.r9"] = revisions[f"{endpoint}.r1"]
    world.resume()
    assert list(revisions) == [f"{endpoint}.r1"]


@pytest.mark.parametrize("state", ["building", "deploying"])
def test_a_server_that_was_away_for_days_still_finishes_the_deploy(
    world: Any, state: str, killed: type[BaseException]
) -> None:
    def die(_what: object) -> Any:
        raise killed

    if state == "building":
        world.builder.before = die
    else:
        world.cluster.decide = die
    endpoint = world.deploy(world.new_version())
    with pytest.raises(killed):
        world.engine().step()
    world.builder.before = lambda _request: None
    world.cluster.decide = lambda _spec: Outcome.READY
    world.clock.advance(3 * 86400)
    world.resume()
    world.settle(world.engine("two"))
    assert world.endpoint(endpoint).status == "running"
