"""Exit codes: the one map from the kind of an error. The numbers are those of BSD's sysexits.h
where one fits, and never change."""

from __future__ import annotations

from merlin.errors import Kind

OK = 0
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
BROKEN_PIPE = 141  # 128 + SIGPIPE

BY_KIND = {
    Kind.FAILED: 1,
    Kind.USAGE: 64,
    Kind.INVALID: 65,
    Kind.NOT_FOUND: 66,
    Kind.UNAVAILABLE: 69,
    Kind.INTERNAL: 70,
    Kind.TOO_LARGE: 72,
    Kind.CONFLICT: 73,
    Kind.EXHAUSTED: 75,
    Kind.UPSTREAM: 76,
    Kind.DENIED: 77,
}
