"""Operations of kind ``version_endpoint``: the straight line from a request to a running model.

Each run takes one step, chosen from what the rows and the deployer say, and leaves the next to
the next claim. So it does not matter where the last worker died:

1. Nothing should run: stop every revision.
2. The live revision is gone (the server was restarted): bring it up again as it was.
3. A deploy is pending: image, start, wait until ready; then the row names the new address.
4. Otherwise: let requests to every other revision finish, and stop those. The old revision of a
   redeploy goes here, after the gateway has switched, and so does a new one that failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.orm import Session

from merlin.errors import MerlinError
from merlin_server.database import now
from merlin_server.deployers.port import Condition, Deployer, RevisionStatus
from merlin_server.endpoints.deploy_errors import (
    DeployFailed,
    DeployTimedOut,
    RevisionVanished,
    UnknownDeployer,
    explain,
)
from merlin_server.endpoints.history import record_failure, record_stop, record_success
from merlin_server.endpoints.store import VersionEndpointRow
from merlin_server.endpoints.work import EndpointWork, load_work, revision_spec, with_image
from merlin_server.images.options import BuildOptions
from merlin_server.images.progress import RecordedProgress
from merlin_server.images.service import ImageService, Locations
from merlin_server.operations.errors import Overdue
from merlin_server.operations.reconciler import Again, Done, Lease, Next
from merlin_server.operations.retries import worth_retrying
from merlin_server.settings import Settings
from merlin_server.traffic.flow import TrafficFlow

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Live:
    """A revision is ready. ``restored``: it was live before."""

    revision: int
    spec: Mapping[str, Any]
    status: RevisionStatus
    restored: bool


@dataclass(frozen=True)
class Stopped:
    """Nothing of the endpoint runs any more."""


@dataclass(frozen=True)
class Tidied:
    """Nothing but the live revision runs."""


Outcome = Live | Stopped | Tidied


@dataclass(frozen=True)
class Pace:
    """How long things are waited for, in seconds. ``settle`` is longer than other replicas take
    to see a change of routing; ``drain`` bounds the wait for requests in flight here, and then
    again inside the model's process."""

    poll: float = 0.1
    settle: float = 1.5
    drain: float = 30.0


class EndpointReconciler:
    """Brings version endpoints to where they should be. ``deployers`` are by backend name."""

    kind = "version_endpoint"

    def __init__(
        self,
        images: ImageService,
        deployers: Mapping[str, Deployer],
        locations: Locations,
        flow: TrafficFlow,
        settings: Settings,
        *,
        pace: Pace | None = None,
        clock: Callable[[], datetime] = now,
    ) -> None:
        slowest = max((e.deployment_timeout_seconds for e in settings.environments), default=300)
        self.deadline = timedelta(seconds=settings.images.build_timeout_seconds + slowest + 60)
        self._images = images
        self._deployers = deployers
        self._locations = locations
        self._flow = flow
        self._pace = pace or Pace()
        self._clock = clock

    def load(self, session: Session, subject: str) -> EndpointWork | None:
        return load_work(session, subject)

    def run(self, work: EndpointWork, lease: Lease) -> Outcome:
        deployer = self._deployers.get(work.deployer)
        if deployer is None:
            raise UnknownDeployer(
                f"Environment {work.environment!r} wants deployer {work.deployer!r}, which is not "
                "configured.",
                environment=work.environment,
            )
        existing = [name for name in deployer.names() if work.owns(name)]
        live = work.name(work.live_revision)
        if not work.wanted:
            self._retire(deployer, existing, lease)
            return Stopped()
        if work.lost and (restored := self._restore(deployer, work, lease)):
            return restored
        if work.pending:
            target = work.name(work.revision)
            self._retire(deployer, [name for name in existing if name not in {live, target}], lease)
            return self._deploy(deployer, work, lease)
        self._retire(deployer, [name for name in existing if name != live], lease)
        return Tidied()

    def apply(self, session: Session, work: EndpointWork, result: Outcome) -> Next:
        row = session.get(VersionEndpointRow, work.endpoint_id)
        if row is None or isinstance(result, Tidied):
            return Done()
        if isinstance(result, Stopped):
            row.status, row.stable_status = "terminated", ""
            row.address, row.message, row.conditions = "", "", []
            row.live_revision, row.live_spec = 0, {}
            record_stop(session, work)
            return Done()
        row.live_revision, row.live_spec = result.revision, dict(result.spec)
        row.address = result.status.address
        row.conditions = [condition.to_dict() for condition in result.status.conditions]
        if not result.restored:
            row.status = "serving" if row.stable_status == "serving" else "running"
            record_success(session, work, row.status)
        if row.revision == row.live_revision:
            row.message = ""
        return Again()

    def failed(
        self,
        session: Session,
        work: EndpointWork,
        error: Exception,
        *,
        attempt: int,
        overdue: bool,
    ) -> Next:
        if not overdue and worth_retrying(error, attempt):
            return Again(failed=True)
        row = session.get(VersionEndpointRow, work.endpoint_id)
        if row is None:
            return Done()
        if work.pending:
            row.status = row.stable_status or "failed"
            row.message = _sentence(error)
            if not row.live_revision:
                row.conditions = _conditions(error, self._clock())
            record_failure(session, work, row.message)
            return Again()
        if not work.wanted:
            row.status, row.message = "failed", f"It could not be stopped. {_sentence(error)}"
        elif work.lost:
            row.message = f"It could not be started again. {_sentence(error)}"
            row.conditions = _conditions(error, self._clock())
        else:
            log.error("old revisions could not be stopped", endpoint=row.id, error=str(error))
        return Done()

    def _deploy(self, deployer: Deployer, work: EndpointWork, lease: Lease) -> Live:
        lease.phase("building")
        options = BuildOptions.asked(
            work.spec.get("image_builder_resource_request"), environment=work.environment
        )
        built = self._images.ensure(work.model_id, work.version_id, lease, options)
        spec = with_image(work.spec, built)
        lease.phase("deploying")
        status = self._bring_up(deployer, work, work.revision, spec, lease)
        return Live(work.revision, spec, status, restored=False)

    def _restore(self, deployer: Deployer, work: EndpointWork, lease: Lease) -> Live | None:
        """Bring the live revision up again; ``None`` if it will not, but a deploy may help."""
        known = deployer.status(work.name(work.live_revision))
        if work.pending and known is not None and known.failed:
            return None
        lease.phase("restarting")
        try:
            status = self._bring_up(deployer, work, work.live_revision, work.live_spec, lease)
        except Overdue:
            raise
        except MerlinError as error:
            if not work.pending:
                raise
            log.warning("live revision not restarted", endpoint=work.endpoint_id, error=str(error))
            return None
        return Live(work.live_revision, work.live_spec, status, restored=True)

    def _bring_up(
        self,
        deployer: Deployer,
        work: EndpointWork,
        revision: int,
        spec: Mapping[str, Any],
        lease: Lease,
    ) -> RevisionStatus:
        give_up = self._clock() + work.timeout
        location = self._locations.locate(work.artifact_uri)
        target = revision_spec(work, revision, spec, location)
        lease.check()
        progress = RecordedProgress(lambda _steps: None, clock=self._clock, check=lease.check)
        deployer.apply(target, progress)
        while True:
            status = deployer.status(target.name)
            if status is None:
                raise RevisionVanished(f"Revision {revision} of {work.full_name} disappeared.")
            if status.ready:
                return status
            who = f"Revision {revision} of {work.full_name}"
            conditions = [condition.to_dict() for condition in status.conditions]
            if status.failed:
                raise DeployFailed(
                    f"{who} does not start. {explain(status.conditions)}", conditions=conditions
                )
            if self._clock() >= give_up:
                raise DeployTimedOut(
                    f"{who} was not ready within {work.timeout.total_seconds():g} s. "
                    f"{explain(status.conditions)}",
                    conditions=conditions,
                )
            lease.sleep(self._pace.poll)

    def _retire(self, deployer: Deployer, names: Iterable[str], lease: Lease) -> None:
        """Stop revisions once nothing is sent to them any more."""
        self._flow.invalidate()
        statuses = {name: deployer.status(name) for name in names}
        addresses = [status.address for status in statuses.values() if status and status.address]
        if addresses:
            lease.phase("draining")
            lease.sleep(self._pace.settle)
            give_up = self._clock() + timedelta(seconds=self._pace.drain)
            while any(map(self._flow.in_flight, addresses)) and self._clock() < give_up:
                lease.sleep(self._pace.poll)
        for name, status in statuses.items():
            lease.check()
            grace = self._pace.drain if status and status.ready else 0
            deployer.stop(name, grace_seconds=grace)


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, MerlinError) else f"{type(error).__name__}: {error}"


def _conditions(error: Exception, time: datetime) -> list[Any]:
    known = error.data.get("conditions") if isinstance(error, MerlinError) else None
    if known:
        return list(known)
    reason = type(error).__name__
    return [Condition("Ready", False, reason, _sentence(error), time).to_dict()]
