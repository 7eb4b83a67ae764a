"""The contract of `merlin_server.deployers.port.Deployer` as tests, for any backend.

Subclass `DeployerContract` in a test module and give it three fixtures: ``deployer``, with nothing
deployed; ``reopen``, which returns the deployer as the next server finds it after this one was
killed; and ``revision(name, breaks=False)``, which makes a `RevisionSpec` that becomes ready, or
one that never can. Needs pytest.
"""

# ruff: noqa: S101 -- these are tests, published with what they test

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import ClassVar, Protocol

from merlin.progress import Silent
from merlin_server.deployers.port import Deployer, LogLine, RevisionSpec, RevisionStatus


class MakeRevision(Protocol):
    """Makes a specification for a revision of this name."""

    def __call__(self, name: str, *, breaks: bool = False) -> RevisionSpec: ...


FIRST, SECOND = "6f0c.r1", "6f0c.r2"


class DeployerContract:
    """Every test starts with nothing deployed."""

    patience_seconds: ClassVar[float] = 60

    def test_what_is_applied_becomes_ready_at_an_address(
        self, deployer: Deployer, revision: MakeRevision
    ) -> None:
        deployer.apply(revision(FIRST), Silent())
        status = self.settle(deployer, FIRST)
        assert status.ready, status.conditions
        assert not status.failed
        assert status.address.startswith("http")
        assert len(status.containers) == 1
        assert deployer.names() == [FIRST]

    def test_applying_again_changes_nothing(
        self, deployer: Deployer, revision: MakeRevision
    ) -> None:
        deployer.apply(revision(FIRST), Silent())
        address = self.settle(deployer, FIRST).address
        deployer.apply(revision(FIRST), Silent())
        status = deployer.status(FIRST)
        assert status is not None
        assert (status.ready, status.address) == (True, address)
        assert deployer.names() == [FIRST]

    def test_revisions_of_one_endpoint_run_side_by_side(
        self, deployer: Deployer, revision: MakeRevision
    ) -> None:
        deployer.apply(revision(FIRST), Silent())
        deployer.apply(revision(SECOND), Silent())
        first, second = self.settle(deployer, FIRST), self.settle(deployer, SECOND)
        assert first.ready
        assert second.ready
        assert first.address != second.address
        deployer.stop(FIRST, grace_seconds=5)
        assert deployer.names() == [SECOND]
        assert self.settle(deployer, SECOND).address == second.address

    def test_what_is_stopped_is_gone_and_stopping_it_again_is_no_error(
        self, deployer: Deployer, revision: MakeRevision
    ) -> None:
        deployer.stop(FIRST, grace_seconds=0)
        deployer.apply(revision(FIRST), Silent())
        deployer.stop(FIRST, grace_seconds=0)
        deployer.stop(FIRST, grace_seconds=0)
        assert deployer.status(FIRST) is None
        assert deployer.names() == []

    def test_a_revision_that_cannot_start_names_the_culprit(
        self, deployer: Deployer, revision: MakeRevision
    ) -> None:
        deployer.apply(revision(FIRST, breaks=True), Silent())
        status = self.settle(deployer, FIRST)
        assert (status.ready, status.failed, status.address) == (False, True, "")
        culprit = next(c for c in status.conditions if not c.status).culprit
        assert culprit["container"] == status.containers[0]
        assert culprit["exit_code"] != 0
        assert culprit["last_lines"]
        assert deployer.names() == [FIRST]

    def test_a_failed_revision_can_be_applied_again(
        self, deployer: Deployer, revision: MakeRevision
    ) -> None:
        deployer.apply(revision(FIRST, breaks=True), Silent())
        assert self.settle(deployer, FIRST).failed
        deployer.stop(FIRST, grace_seconds=0)
        deployer.apply(revision(FIRST), Silent())
        assert self.settle(deployer, FIRST).ready

    def test_logs_outlive_the_revision(self, deployer: Deployer, revision: MakeRevision) -> None:
        deployer.apply(revision(FIRST, breaks=True), Silent())
        container = self.settle(deployer, FIRST).containers[0]
        before = list(deployer.logs(FIRST))
        assert before
        assert {line.container for line in before} == {container}
        assert [line.time for line in before] == sorted(line.time for line in before)
        assert list(deployer.logs(FIRST, tail=1)) == before[-1:]
        deployer.stop(FIRST, grace_seconds=0)
        assert [line.text for line in deployer.logs(FIRST)] == [line.text for line in before]

    def test_following_logs_ends_with_the_revision(
        self, deployer: Deployer, revision: MakeRevision
    ) -> None:
        deployer.apply(revision(FIRST), Silent())
        self.settle(deployer, FIRST)
        followed: list[LogLine] = []
        thread = threading.Thread(
            target=lambda: followed.extend(deployer.logs(FIRST, follow=True)), daemon=True
        )
        thread.start()
        deployer.stop(FIRST, grace_seconds=5)
        thread.join(self.patience_seconds)
        assert not thread.is_alive()
        assert followed

    def test_logs_of_what_never_was_are_empty(self, deployer: Deployer) -> None:
        assert list(deployer.logs("never.r1")) == []
        assert list(deployer.logs("never.r1", follow=True)) == []

    def test_the_next_server_finds_what_the_last_one_left(
        self, deployer: Deployer, revision: MakeRevision, reopen: Callable[[], Deployer]
    ) -> None:
        for name in (FIRST, SECOND):
            deployer.apply(revision(name), Silent())
            self.settle(deployer, name)
        next_one = reopen()
        assert next_one.names() == [FIRST, SECOND]
        next_one.stop(FIRST, grace_seconds=0)
        assert next_one.names() == [SECOND]
        next_one.apply(revision(SECOND), Silent())
        assert self.settle(next_one, SECOND).ready

    def settle(self, deployer: Deployer, name: str) -> RevisionStatus:
        """Return the status once it is ready or failed."""
        deadline = time.monotonic() + self.patience_seconds
        while True:
            status = deployer.status(name)
            assert status is not None
            if status.ready or status.failed:
                return status
            assert time.monotonic() < deadline, status
            time.sleep(0.01)
