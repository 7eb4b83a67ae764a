"""Where metrics are pushed to, by the variables of Merlin's server (``PUSHGATEWAY_*``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Optional

from merlin_runtime.environment import flag, number


@dataclass(frozen=True)
class PushSettings:
    """``url`` is ``host:port`` or a whole address."""

    url: str
    interval_seconds: float

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Optional[PushSettings]:
        """Return nothing unless ``PUSHGATEWAY_ENABLED``."""
        if not flag(environ, "PUSHGATEWAY_ENABLED"):
            return None
        return cls(
            url=environ.get("PUSHGATEWAY_URL") or "localhost:9091",
            interval_seconds=number(
                environ, "PUSHGATEWAY_PUSH_INTERVAL_SEC", 30.0, float, least=0.1
            ),
        )
