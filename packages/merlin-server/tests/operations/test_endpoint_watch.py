"""What happens to a model after its deploy stands in its row."""

from __future__ import annotations

from typing import Any

from merlin_server.deployers.memory import MemoryDeployer, Outcome
from merlin_server.endpoints.watch import EndpointWatch


def test_a_model_that_crashes_after_its_deploy_says_so_and_recovers(world: Any) -> None:
    endpoint = world.deploy(world.new_version())
    world.settle(world.engine())
    deployer = MemoryDeployer(world.cluster, clock=world.clock)
    watch = EndpointWatch(world.user, {"process": deployer})
    revision = world.cluster.revisions[f"{endpoint}.r1"]

    revision.outcome = Outcome.CRASHES
    watch.look()
    (condition,) = world.endpoint(endpoint).conditions
    assert (condition["status"], condition["reason"]) == (False, "CrashLoopBackOff")
    assert condition["culprit"]["exit_code"] == 1
    changed = world.endpoint(endpoint).updated_at

    watch.look()
    assert world.endpoint(endpoint).updated_at == changed

    revision.outcome = Outcome.READY
    watch.look()
    assert [c["reason"] for c in world.endpoint(endpoint).conditions] == ["Ready"]
    assert world.endpoint(endpoint).status == "running"


def test_an_endpoint_that_was_stopped_meanwhile_is_left_alone(world: Any) -> None:
    endpoint = world.deploy(world.new_version())
    engine = world.engine()
    world.settle(engine)
    world.undeploy(endpoint)
    world.settle(engine)
    EndpointWatch(world.user, {"process": MemoryDeployer(world.cluster)}).look()
    assert world.endpoint(endpoint).conditions == []
