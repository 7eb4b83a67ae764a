"""The engine alone: claims, fencing, back-off, deadlines, threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from merlin_server.database import Database, Row
from merlin_server.operations.engine import MAX_ATTEMPTS, Engine
from merlin_server.operations.reconciler import Again, Cancelled, Done, Lease, Next
from merlin_server.operations.requests import request
from merlin_server.operations.store import OperationRow
from merlin_server.operations.virtual_time import VirtualClock
from merlin_server.projects.store import ProjectRow
from merlin_server.settings import OperationsSettings


@dataclass
class Projects:
    """Reconciles a project's ``stream`` (observed) to its ``team`` (desired). ``act`` is the slow
    work; ``on_failure`` decides about its errors."""

    act: Callable[[str, Lease], None] = lambda _work, _lease: None
    on_failure: Callable[[Exception, bool], Next] = lambda _error, overdue: (
        Done() if overdue else Again(failed=True)
    )
    deadline: timedelta = timedelta(seconds=100)
    kind: str = "project"
    failures: list[tuple[str, int, bool]] = field(default_factory=list)

    def load(self, session: Session, subject: str) -> tuple[str, str] | None:
        row = session.scalars(select(ProjectRow).where(ProjectRow.name == subject)).first()
        return (subject, row.team) if row else None

    def run(self, work: tuple[str, str], lease: Lease) -> str:
        self.act(work[1], lease)
        return work[1]

    def apply(self, session: Session, work: tuple[str, str], result: str) -> Next:
        session.scalars(select(ProjectRow).where(ProjectRow.name == work[0])).one().stream = result
        return Done()

    def failed(
        self,
        session: Session,
        work: tuple[str, str],
        error: Exception,
        *,
        attempt: int,
        overdue: bool,
    ) -> Next:
        self.failures.append((str(error), attempt, overdue))
        return self.on_failure(error, overdue)


@dataclass
class Bench:
    """A database with projects, and what engines on it share."""

    database: Database
    clock: VirtualClock = field(default_factory=VirtualClock)

    def want(self, name: str, team: str) -> int:
        with self.database.write() as session:
            row = session.scalars(select(ProjectRow).where(ProjectRow.name == name)).first()
            if row is None:
                row = ProjectRow(name=name)
                session.add(row)
            row.team = team
            session.flush()
            return request(session, "project", name)

    def got(self, name: str) -> str:
        with self.database.read() as session:
            return session.scalars(select(ProjectRow.stream).where(ProjectRow.name == name)).one()

    def operation(self, name: str) -> OperationRow:
        with self.database.read() as session:
            row = session.get_one(OperationRow, ("project", name))
            session.expunge_all()
            return row

    def engine(self, projects: Projects, owner: str = "one", **settings: Any) -> Engine:
        return Engine(
            self.database,
            [projects],
            OperationsSettings(**settings),
            owner=owner,
            clock=self.clock,
            random=Random(1),
            wait=self.clock.wait,
        )

    def real_engine(self, projects: Projects, owner: str = "one", **settings: Any) -> Engine:
        return Engine(self.database, [projects], OperationsSettings(**settings), owner=owner)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    database = Database(f"sqlite:///{tmp_path}/merlin.db")
    Row.metadata.create_all(database.engine)
    yield Bench(database)
    database.dispose()


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_request_is_worked_on_once(bench: Bench) -> None:
    seen: list[str] = []
    engine = bench.engine(Projects(lambda team, _lease: seen.append(team)))
    assert not engine.step()
    assert bench.want("a", "x") == 1
    assert engine.step()
    assert not engine.step()
    assert (seen, bench.got("a")) == (["x"], "x")
    assert bench.want("a", "y") == 2
    assert engine.step()
    assert (seen, bench.got("a")) == (["x", "y"], "y")
    row = bench.operation("a")
    assert (row.observed, row.attempts, row.owner, row.lease_expires) == (2, 0, "", None)


def test_a_request_is_undone_with_its_transaction(bench: Bench) -> None:
    with suppress(ZeroDivisionError), bench.database.write() as session:
        request(session, "project", "a")
        raise ZeroDivisionError
    assert not bench.engine(Projects()).step()


def test_what_is_gone_is_done(bench: Bench) -> None:
    with bench.database.write() as session:
        request(session, "project", "nobody")
    engine = bench.engine(Projects())
    assert engine.step()
    assert not engine.step()


def test_the_result_of_a_worker_that_lost_its_lease_is_dropped(bench: Bench) -> None:
    """The first worker sleeps through its lease inside a call; a second one takes over."""
    second = bench.engine(Projects(), "two")

    def freeze(team: str, _lease: Lease) -> None:
        if team == "x":
            bench.clock.advance(16)
            bench.want("a", "y")
            assert second.step()

    assert bench.want("a", "x") == 1
    assert bench.engine(Projects(freeze), "one").step()
    assert bench.got("a") == "y"
    row = bench.operation("a")
    assert (row.token, row.observed) == (2, 2)


def test_a_lost_lease_is_noticed_at_the_next_check(bench: Bench) -> None:
    noticed: list[str] = []

    def freeze(_team: str, lease: Lease) -> None:
        lease.check()
        bench.clock.advance(16)
        assert bench.engine(Projects(), "two").step()
        try:
            lease.check()
        except Cancelled as reason:
            noticed.append(str(reason))
            raise

    bench.want("a", "x")
    assert bench.engine(Projects(freeze), "one").step()
    assert len(noticed) == 1


def test_a_lease_is_kept_by_working(bench: Bench) -> None:
    other = bench.engine(Projects(), "two")
    others: list[bool] = []

    def work(_team: str, lease: Lease) -> None:
        for _ in range(30):
            lease.sleep(3)
            others.append(other.step())

    bench.want("a", "x")
    assert bench.engine(Projects(work), "one").step()
    assert (set(others), bench.got("a")) == ({False}, "x")


def test_a_newer_request_cancels_what_is_at_work(bench: Bench) -> None:
    def work(team: str, lease: Lease) -> None:
        if team == "x":
            bench.want("a", "y")
            engine.notify()
            lease.sleep(50)
            raise AssertionError("worked on")

    projects = Projects(work)
    engine = bench.engine(projects)
    bench.want("a", "x")
    started = bench.clock.now
    assert engine.step()
    assert engine.step()
    assert not engine.step()
    assert bench.clock.now - started < timedelta(seconds=1)
    assert (bench.got("a"), projects.failures) == ("y", [])


def test_failures_back_off_and_end_at_the_deadline(bench: Bench) -> None:
    def fail(_team: str, _lease: Lease) -> None:
        raise OSError("refused")

    projects = Projects(fail)
    engine = bench.engine(projects)
    bench.want("a", "x")
    started = bench.clock.now
    pauses = []
    while engine.step():
        due = bench.operation("a").not_before
        if due is None:
            break
        pauses.append((due - bench.clock.now).total_seconds())
        bench.clock.now = due
    assert bench.clock.now - started == timedelta(seconds=100)
    for attempt, pause in enumerate(pauses[:-1]):
        assert 0.5 * 2**attempt <= pause <= 2**attempt
    assert [attempt for _, attempt, _ in projects.failures] == list(range(1, len(pauses) + 2))
    assert [overdue for *_, overdue in projects.failures] == [False] * len(pauses) + [True]
    assert projects.failures[-1][0].startswith("It was not finished before its deadline. The last")
    assert "refused" in projects.failures[-1][0]


def test_work_that_outlives_its_deadline_is_stopped_by_its_next_check(bench: Bench) -> None:
    projects = Projects(lambda _team, lease: lease.sleep(10**6))
    bench.want("a", "x")
    started = bench.clock.now
    assert bench.engine(projects).step()
    assert timedelta(seconds=100) <= bench.clock.now - started <= timedelta(seconds=106)
    assert [(attempt, overdue) for _, attempt, overdue in projects.failures] == [(1, True)]


def test_a_step_that_is_not_a_failure_gets_a_deadline_of_its_own(bench: Bench) -> None:
    class Steps(Projects):
        left = 5

        def apply(self, session: Session, work: tuple[str, str], result: str) -> Next:
            self.left -= 1
            return Again(timedelta(seconds=1)) if self.left else Done()

    projects = Steps(lambda _team, lease: lease.sleep(90))
    engine = bench.engine(projects)
    bench.want("a", "x")
    while projects.left:
        assert engine.step()
        bench.clock.advance(1)
    assert (projects.failures, engine.step()) == ([], False)


def test_work_that_kills_its_process_is_given_up(bench: Bench, killed: type[BaseException]) -> None:
    def die(_team: str, _lease: Lease) -> None:
        raise killed

    projects = Projects(die, deadline=timedelta(days=9))
    engine = bench.engine(projects)
    bench.want("a", "x")
    for _ in range(MAX_ATTEMPTS):
        with pytest.raises(killed):
            engine.step()
        assert not engine.step()
        bench.clock.advance(15)
    assert engine.step()
    ((message, attempt, overdue),) = projects.failures
    assert f"It was begun {MAX_ATTEMPTS} times" in message
    assert (attempt, overdue) == (MAX_ATTEMPTS + 1, True)
    assert not engine.step()


@pytest.mark.parametrize("where", ["load", "apply", "failed"])
def test_a_domain_that_breaks_is_contained_and_tried_again(bench: Bench, where: str) -> None:
    class Broken(Projects):
        broken = True

    def wrap(name: str) -> None:
        original = getattr(Broken, name)

        def method(self: Broken, *args: Any, **options: Any) -> Any:
            if self.broken:
                raise RuntimeError("a bug")
            return original(self, *args, **options)

        setattr(Broken, name, method)

    wrap(where)

    def act(_team: str, _lease: Lease) -> None:
        if where == "failed" and projects.broken:
            raise OSError("refused")

    projects = Broken(act)
    engine = bench.engine(projects)
    bench.want("a", "x")
    assert engine.step()
    assert not engine.step()
    assert "a bug" in bench.operation("a").error
    assert bench.got("a") == ""
    projects.broken = False
    bench.clock.advance(60)
    assert engine.step()
    assert bench.got("a") == "x"


def test_threads_work_at_once_and_stop_by_releasing(bench: Bench) -> None:
    together = threading.Barrier(3, timeout=20)

    def act(team: str, lease: Lease) -> None:
        if team == "wait":
            together.wait()
            lease.sleep(600)

    engine = bench.real_engine(Projects(act, deadline=timedelta(hours=1)), workers=3)
    engine.start()
    for name in ("a", "b"):
        bench.want(name, "wait")
    engine.notify()
    together.wait()
    bench.want("c", "quick")
    engine.notify()
    until(lambda: bench.got("c") == "quick")
    began = time.monotonic()
    engine.stop(10)
    assert time.monotonic() - began < 5
    for name in ("a", "b"):
        row = bench.operation(name)
        assert (row.lease_expires, row.attempts, row.observed) == (None, 0, 0)


def test_requests_of_others_are_found_by_polling(bench: Bench) -> None:
    engine = bench.real_engine(Projects(), workers=1, poll_seconds=0.05)
    engine.start()
    bench.want("a", "x")
    until(lambda: bench.got("a") == "x")
    engine.stop(10)


def test_a_worker_that_hangs_past_its_deadline_is_replaced(bench: Bench) -> None:
    release = threading.Event()
    projects = Projects(
        lambda team, _lease: release.wait(30) and None if team == "hang" else None,
        deadline=timedelta(seconds=0.3),
    )
    engine = bench.real_engine(projects, workers=1, lease_seconds=0.2, poll_seconds=0.05)
    engine.start()
    bench.want("a", "hang")
    until(lambda: projects.failures)
    assert projects.failures[0][2]
    bench.want("b", "x")
    until(lambda: bench.got("b") == "x")
    release.set()
    engine.stop(10)
    assert bench.got("a") == ""


def test_two_engines_on_one_database_never_apply_a_stale_result(bench: Bench) -> None:
    race(bench, rounds=60)


@pytest.mark.parts("postgres")
def test_two_engines_on_postgresql_never_apply_a_stale_result(postgres_url: str) -> None:
    database = Database(postgres_url)
    Row.metadata.drop_all(database.engine)
    Row.metadata.create_all(database.engine)
    race(Bench(database), rounds=120)
    Row.metadata.drop_all(database.engine)
    database.dispose()


def race(bench: Bench, rounds: int) -> None:
    """Leases so short that workers lose them all the time, requests that keep coming, and two
    engines: what is applied must be what was wanted last, applied by whoever held the token."""
    chance = Random(7)

    def act(_team: str, lease: Lease) -> None:
        time.sleep(chance.choice([0, 0, 0.01, 0.12]))
        lease.check()

    names = [f"p{number}" for number in range(4)]
    for name in names:
        bench.want(name, "0")
    engines = [
        bench.real_engine(
            Projects(act, deadline=timedelta(minutes=5)),
            owner,
            workers=2,
            lease_seconds=0.1,
            poll_seconds=0.02,
        )
        for owner in ("one", "two")
    ]
    for engine in engines:
        engine.start()
    for wanted in range(1, rounds):
        bench.want(chance.choice(names), str(wanted))
        chance.choice(engines).notify()
        time.sleep(chance.choice([0, 0.005, 0.02]))
    for name in names:
        bench.want(name, "last")
    until(lambda: all(bench.got(name) == "last" for name in names))
    until(lambda: all(bench.operation(n).observed == bench.operation(n).generation for n in names))
    for engine in engines:
        engine.stop(10)
    assert all(bench.got(name) == "last" for name in names)
