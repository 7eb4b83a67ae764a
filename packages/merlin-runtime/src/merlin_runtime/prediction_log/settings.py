"""Where prediction logs go, by the variables of Merlin's server (``PUBLISHER_*``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional

from merlin_runtime.environment import flag, json_object, number
from merlin_runtime.errors import UsageError


@dataclass(frozen=True)
class PublisherSettings:
    """``sampling_ratio`` is of answered predictions, from 0 to 1; ``kafka_config`` holds further
    properties of librdkafka, passwords among them."""

    topic: str
    brokers: str
    linger_ms: int
    acks: int
    partitions: int
    replication_factor: int
    sampling_ratio: float
    kafka_config: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Optional[PublisherSettings]:
        """Return nothing unless ``PUBLISHER_ENABLED``; raises `UsageError` naming a variable that
        is missing or wrong."""
        if not flag(environ, "PUBLISHER_ENABLED"):
            return None

        def whole(variable: str, default: int, *, least: int) -> int:
            return number(environ, f"PUBLISHER_KAFKA_{variable}", default, int, least=least)

        return cls(
            topic=_required(environ, "PUBLISHER_KAFKA_TOPIC"),
            brokers=_required(environ, "PUBLISHER_KAFKA_BROKERS"),
            linger_ms=whole("LINGER_MS", 1000, least=0),
            acks=number(environ, "PUBLISHER_KAFKA_ACKS", 0, _acks, least=-1),
            partitions=whole("NUM_PARTITIONS", 24, least=1),
            replication_factor=whole("REPLICATION_FACTOR", 3, least=1),
            sampling_ratio=number(
                environ, "PUBLISHER_SAMPLING_RATIO", 0.01, float, least=0.0, most=1.0
            ),
            kafka_config=json_object(environ, "PUBLISHER_KAFKA_CONFIG", "librdkafka's properties"),
        )


def _acks(text: str) -> int:
    return -1 if text == "all" else int(text)


def _required(environ: Mapping[str, str], variable: str) -> str:
    value = environ.get(variable, "").strip()
    if not value:
        raise UsageError(f"{variable} is not set, and PUBLISHER_ENABLED asks for prediction logs.")
    return value
