"""Random requests, failures, kills and restarts against a small model of what must come of them.

A kill ends the worker right before or right after any durable step (a committed transaction, a
change in the cluster, a build). Time is virtual; nothing waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from merlin.errors import Kind, MerlinError
from merlin_server.deployers.memory import Outcome
from merlin_server.deployers.port import RevisionSpec

STEP_DEADLINE = 600 + 300 + 60
DEADLINE = 2 * STEP_DEADLINE + 60
FINAL = {"running", "serving", "failed", "terminated"}


class ClusterAway(MerlinError):
    code = "cluster_away"
    kind = Kind.UNAVAILABLE


@dataclass
class Expected:
    """What must have come of an endpoint once everything has settled. What was asked for at
    ``asked`` may be overdue after `STEP_DEADLINE`, however well it would have gone: then things
    are as they were, ``otherwise``."""

    wanted: bool = True
    status: str = "pending"
    colour: str = ""
    asked: datetime | None = None
    otherwise: tuple[str, str] = ("", "")


@dataclass
class Plan:
    """What the cluster does: by the revision's own variables, after refusing some calls."""

    refusals: int = 0
    colours: dict[str, Expected] = field(default_factory=dict)

    def decide(self, spec: RevisionSpec) -> Outcome | Exception:
        if self.refusals:
            self.refusals -= 1
            return ClusterAway("The cluster is away.")
        return Outcome(spec.env["OUTCOME"])


class Lifecycle(RuleBasedStateMachine):
    """One server's life. ``new_world`` is set by the tests below."""

    new_world: Callable[[], Any]
    killed: type[BaseException]

    endpoints = Bundle("endpoints")

    @initialize()
    def begin(self) -> None:
        self.world = self.new_world()
        self.plan = Plan()
        self.world.cluster.decide = self.plan.decide
        self.workers = [self.world.engine("one"), self.world.engine("two")]
        self.colours = 0
        self.expected: dict[str, Expected] = {}

    @rule(target=endpoints, outcome=st.sampled_from(Outcome))
    def deploy(self, outcome: Outcome) -> str:
        version = self.world.new_version()
        colour = self._colour()
        endpoint: str = self.world.deploy(version, OUTCOME=outcome.value, COLOUR=colour)
        self.expected[endpoint] = Expected()
        self._expect(endpoint, outcome, colour, before="")
        return endpoint

    @rule(endpoint=endpoints, outcome=st.sampled_from(Outcome))
    def redeploy(self, endpoint: str, outcome: Outcome) -> None:
        colour = self._colour()
        before = self.world.endpoint(endpoint)
        stable = before.stable_status if before.status == "pending" else before.status
        if before.desired == "terminated" and before.live_revision:
            return  # The API refuses this until the undeploy is over.
        self.world.redeploy(endpoint, OUTCOME=outcome.value, COLOUR=colour)
        self._expect(endpoint, outcome, colour, before=stable)

    @rule(endpoint=endpoints)
    def undeploy(self, endpoint: str) -> None:
        self.world.undeploy(endpoint)
        self.expected[endpoint] = Expected(wanted=False, status="terminated")

    @rule(worker=st.integers(0, 1))
    def work(self, worker: int) -> None:
        self.workers[worker].step()

    @rule(worker=st.integers(0, 1), after=st.integers(0, 12))
    def kill_a_worker(self, worker: int, after: int) -> None:
        self.world.switch.left = after
        try:
            while self.workers[worker].step():
                pass
        except self.killed:
            self.workers[worker] = self.world.engine(f"after kill {worker}")
        self.world.switch.left = -1

    @rule()
    def restart_the_server(self) -> None:
        """Local processes end with it."""
        self.world.cluster.lose_processes()
        self.world.resume()

    @rule(times=st.integers(1, 3))
    def refuse(self, times: int) -> None:
        self.plan.refusals = times

    @rule(seconds=st.sampled_from([1, 20, 400]))
    def let_time_pass(self, seconds: int) -> None:
        self.world.clock.advance(seconds)

    @precondition(lambda self: self.expected)
    @rule()
    def settle(self) -> None:
        self.world.settle(self.workers[0], within=DEADLINE)
        wanted = []
        for endpoint, expected in self.expected.items():
            row = self.world.endpoint(endpoint)
            assert row.status in FINAL
            colour = self._live_colour(row)
            if self._is_overdue(row, expected):
                assert (row.status, colour) == expected.otherwise
            else:
                assert (row.status, colour) == (expected.status, expected.colour), row.message
            if colour:
                wanted.append(f"{endpoint}.r{row.live_revision}")
                assert row.address
            else:
                assert not row.address
            for _, status, error in self.world.deployments(endpoint):
                assert status != "pending"
                assert (status == "failed") == bool(error)
        # Nothing else runs, nothing is left behind.
        assert sorted(self.world.cluster.revisions) == sorted(wanted)
        assert self.world.cluster.running() == sorted(wanted)

    @invariant()
    def an_address_always_answers(self) -> None:
        """What is routed to runs, also in the middle of a redeploy, a failure or a kill."""
        for row in self.world.endpoints() if hasattr(self, "world") else ():
            if row.address and row.desired == "running":
                revision = self.world.cluster.revisions[f"{row.id}.r{row.live_revision}"]
                assert revision.running
                assert revision.address == row.address
                assert revision.outcome is Outcome.READY

    def teardown(self) -> None:
        if hasattr(self, "world") and self.expected:
            self.settle()

    def _colour(self) -> str:
        self.colours += 1
        return f"colour {self.colours}"

    def _live_colour(self, row: Any) -> str:
        variables = row.live_spec.get("env_vars", ())
        return "".join(v["value"] for v in variables if v["name"] == "COLOUR")

    def _is_overdue(self, row: Any, expected: Expected) -> bool:
        """Others may have kept the workers, or the clock may have jumped, for all of its time."""
        asked = expected.asked
        late = asked and (self.world.clock.now - asked).total_seconds() >= STEP_DEADLINE
        return bool(late) and row.message.startswith("It was not finished before its deadline.")

    def _expect(self, endpoint: str, outcome: Outcome, colour: str, *, before: str) -> None:
        live = self._live_colour(self.world.endpoint(endpoint))
        status, asked = before or "failed", self.world.clock.now
        if outcome is Outcome.READY:
            expected = Expected(True, "running", colour, asked, (status, live))
        else:
            expected = Expected(True, status, live, asked, (status, live))
        self.expected[endpoint] = expected


def run(new_world: Callable[[], Any], killed: type[BaseException], examples: int) -> None:
    machine = type(
        "Machine", (Lifecycle,), {"new_world": staticmethod(new_world), "killed": killed}
    )
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_every_life_on_sqlite_ends_well(
    new_world: Callable[[], Any], killed: type[BaseException]
) -> None:
    run(new_world, killed, 25)


@pytest.mark.parts("postgres")
def test_every_life_on_postgresql_ends_well(
    new_postgres_world: Callable[[], Any], killed: type[BaseException]
) -> None:
    run(new_postgres_world, killed, 8)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_every_long_life_on_sqlite_ends_well(
    new_world: Callable[[], Any], killed: type[BaseException]
) -> None:
    run(new_world, killed, 1500)
