"""What of the traffic is logged."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class LoggerMode(StrEnum):
    """Which side of a call is logged."""

    ALL = "all"
    REQUEST = "request"
    RESPONSE = "response"


@dataclass(frozen=True)
class LoggerConfig:
    """Logging of one container's traffic."""

    enabled: bool
    mode: LoggerMode = LoggerMode.ALL


@dataclass(frozen=True)
class PredictionLoggerConfig:
    """Logging of features and predictions, by the names of a standard transformer's tables."""

    enabled: bool
    raw_features_table: str = ""
    entities_table: str = ""


@dataclass(frozen=True)
class Logger:
    """Logging of model, transformer and predictions; `None` leaves a part as it is."""

    model: LoggerConfig | None = None
    transformer: LoggerConfig | None = None
    prediction: PredictionLoggerConfig | None = None
