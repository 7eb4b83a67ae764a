"""What a deployed version may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ResourceRequest:
    """Replicas, and CPU, memory and GPU of each as Kubernetes quantities (``500m``, ``1Gi``).

    What is left out is decided by the environment.
    """

    min_replica: int | None = None
    max_replica: int | None = None
    cpu_request: str | None = None
    cpu_limit: str | None = None
    memory_request: str | None = None
    gpu_request: str | None = None
    gpu_name: str | None = None

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raise `ValueError` when the replica numbers contradict each other."""
        low, high = self.min_replica, self.max_replica
        if low is not None and low < 0:
            raise ValueError(f"min_replica is {low}; it must not be negative.")
        if high is not None and high < 1:
            raise ValueError(f"max_replica is {high}; it must be at least 1.")
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_replica ({low}) is larger than max_replica ({high}).")
