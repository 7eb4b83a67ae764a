"""The deployer port: a built version becomes running processes, containers or pods.

Contract every deployer keeps (`merlin_server.deployers.contract` tests it):

- A *revision* is known by its name, ``{endpoint id}.r{revision}``, which the caller chooses; every
  method is idempotent by it, also across restarts of the server.
- `apply` starts a revision and returns; `status` says when it is ready. Other revisions of the
  same endpoint are left alone: moving traffic and stopping the old one is the caller's business.
- A revision that fails says why: conditions with the culprit (container, exit code, last lines).
- `stop` drains: requests in flight are answered within the grace period.
- What a dead server left behind is found again by `names` and can be stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from merlin.artifacts.store import ArtifactStore
from merlin.progress import Progress


@dataclass(frozen=True)
class RevisionSpec:
    """All a deployer needs to run one revision.

    ``full_name`` is Merlin's ``{model}-{version}``, the name in the predict path. ``image`` carries
    a digest. ``lock_key`` and ``lock_text`` are the image's lock, for deployers that install it
    themselves. ``store``/``folder`` hold the model folder. ``env`` is the user's, without secrets.
    """

    name: str
    project: str
    model: str
    version: str
    full_name: str
    model_type: str
    image: str
    python: str
    lock_key: str
    lock_text: str
    store: ArtifactStore
    folder: str
    env: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Condition:
    """One thing known about a revision, in Kubernetes' terms. ``culprit`` holds ``container``,
    ``exit_code`` and ``last_lines`` where they explain the state."""

    type: str
    status: bool
    reason: str
    message: str
    time: datetime
    culprit: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape shown in the API."""
        return {**asdict(self), "time": self.time.isoformat(), "culprit": dict(self.culprit)}


@dataclass(frozen=True)
class RevisionStatus:
    """What is running. ``address`` is an HTTP base URL reachable from the gateway, empty until
    ready. ``failed`` means it will not become ready without a change."""

    name: str
    ready: bool
    failed: bool
    address: str
    conditions: tuple[Condition, ...] = ()
    containers: tuple[str, ...] = ()


@dataclass(frozen=True)
class LogLine:
    """One line of output of one container."""

    time: datetime
    container: str
    text: str


class Deployer(Protocol):
    """Runs revisions; safe to use from several threads."""

    def apply(self, spec: RevisionSpec, progress: Progress) -> None:
        """Start the revision unless it runs already. Slow: it may prepare an environment."""

    def status(self, name: str) -> RevisionStatus | None:
        """Observe a revision; ``None`` if it does not exist."""

    def stop(self, name: str, *, grace_seconds: float) -> None:
        """Drain and remove the revision; removing what is not there is no error."""

    def names(self) -> list[str]:
        """All revisions that exist, whoever started them."""

    def logs(
        self, name: str, *, tail: int | None = None, follow: bool = False
    ) -> Iterator[LogLine]:
        """Yield log lines, oldest first; with ``follow`` until the revision is gone. Lines outlive
        the process: a crashed revision's log can be read."""


@runtime_checkable
class Closes(Protocol):
    """A deployer whose revisions end with the server; ask with ``isinstance``."""

    def close(self) -> None:
        """Stop what runs, leaving it known: `Deployer.apply` starts it again next time."""
