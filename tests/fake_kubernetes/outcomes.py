"""What a test can let happen to a container or to a whole Pod."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Exits:
    """The container writes its log while it runs, then ends. ``message`` is its termination log."""

    code: int = 0
    message: str = ""
    log: str = ""
    reason: str = ""

    @property
    def shown_reason(self) -> str:
        return self.reason or ("Completed" if self.code == 0 else "Error")


def out_of_memory(log: str = "") -> Exits:
    return Exits(137, reason="OOMKilled", log=log)


@dataclass(frozen=True)
class Hangs:
    """The container runs until ``Kubelet.release``, or until somebody ends its Pod."""

    log: str = ""


@dataclass(frozen=True)
class CannotPull:
    """The image cannot be had; the container waits, first in ErrImagePull, then backing off."""

    message: str = "manifest unknown"


@dataclass(frozen=True)
class Step:
    """A container that is to run for real: ``mounts`` are folders by the path they would have.

    Secrets and config maps are there as files; volumes are shared by the containers of a Pod.
    """

    name: str
    image: str
    command: Sequence[str]
    environment: Mapping[str, str]
    mounts: Mapping[str, Path]
    termination_log: Path


@dataclass(frozen=True)
class Executes:
    """The container is run by a callable, which answers how it ended.

    The file ``termination_log`` is the message, if the answer has none and the file was written.
    """

    run: Callable[[Step], Exits]


@dataclass(frozen=True)
class Unschedulable:
    """No node takes the Pod."""

    message: str = "0/1 nodes are available: 1 Insufficient memory."


@dataclass(frozen=True)
class Evicted:
    """The node throws the running Pod out."""

    message: str = "The node was low on resource: ephemeral-storage."


@dataclass(frozen=True)
class NodeLost:
    """The node of the running Pod falls silent: marked for deletion, then collected."""


ContainerOutcome = Exits | Hangs | CannotPull | Executes
PodOutcome = Unschedulable | Evicted | NodeLost
