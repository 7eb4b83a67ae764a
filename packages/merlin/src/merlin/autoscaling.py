"""When a version gets more replicas."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class MetricsType(StrEnum):
    """What is measured: percentages of the request, or calls at once and a second."""

    CPU_UTILIZATION = "cpu_utilization"
    MEMORY_UTILIZATION = "memory_utilization"
    CONCURRENCY = "concurrency"
    RPS = "rps"


@dataclass(frozen=True)
class AutoscalingPolicy:
    """Add replicas while the metric is above ``target_value``."""

    metrics_type: MetricsType
    target_value: float


SERVERLESS_DEFAULT_AUTOSCALING_POLICY = AutoscalingPolicy(MetricsType.CONCURRENCY, 1)
RAW_DEPLOYMENT_DEFAULT_AUTOSCALING_POLICY = AutoscalingPolicy(MetricsType.CPU_UTILIZATION, 50)
