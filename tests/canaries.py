"""Secrets that are planted, and a search for them in all that is said, written and sent."""

from __future__ import annotations

import base64
import os
import traceback
from urllib.parse import quote

from rich.pretty import pretty_repr
from rich.traceback import Traceback

USER = "builder"


class Canaries:
    """Secrets by where they are planted, and all that was said. A secret is also looked for as it
    stands in an address and in a header of basic authentication.

    ``own_file`` is the test's, whose frames hold what it planted.
    """

    def __init__(self, own_file: str) -> None:
        self._own_file = own_file
        self._planted: dict[str, bytes] = {}
        self._leaks: set[str] = set()
        self.heard = 0

    def plant(self, name: str) -> str:
        secret = f"canary-{name}-{os.urandom(12).hex()}"
        self.watch(name, secret)
        return secret

    def watch(self, name: str, secret: str, user: str = USER) -> None:
        self._planted[name] = secret.encode()
        self._planted[f"{name} quoted"] = quote(secret, safe="").encode()
        # Cut where what stands before and after it has no part.
        whole = len(user) + 1 + len(secret)
        pair = base64.b64encode(f"{user}:{secret}".encode())
        self._planted[f"{name} in base64"] = pair[-(-(len(user) + 1) // 3) * 4 : whole // 3 * 4]

    def hear(self, place: str, *said: object) -> None:
        for each in said:
            content = each if isinstance(each, bytes) else str(each).encode()
            self.heard += 1
            self._leaks |= {
                f"{name} in {place}" for name, secret in self._planted.items() if secret in content
            }

    def hear_error(self, place: str, error: BaseException) -> None:
        """All that anybody may make of an error."""
        self.hear(f"{place}: error", error, repr(error), getattr(error, "data", ""))
        self.hear(f"{place}: traceback", "".join(traceback.format_exception(error)))
        shown = Traceback.from_exception(
            type(error),
            error,
            error.__traceback__,
            show_locals=True,
        )
        for stack in shown.trace.stacks:
            for frame in stack.frames:
                if self._own_file not in frame.filename:
                    values = {name: repr(node) for name, node in (frame.locals or {}).items()}
                    self.hear(f"{place}: locals of {frame.name} in {frame.filename}", values)

    def hear_object(self, place: str, thing: object) -> None:
        self.hear(f"{place}: object", thing, repr(thing), [thing], pretty_repr(thing))

    def check(self, *, at_least: int) -> None:
        """Fail with every leak, or where less was heard than there is to hear."""
        assert self.heard > at_least, f"heard {self.heard} things only"
        assert not self._leaks, "\n".join(sorted(self._leaks))
