"""Index options of a build in uv's terms: addresses as arguments, credentials as environment.

All can see command lines, so uv is told the names of indexes there, and who to be at each of them
in variables of its own, which only this user's processes can read.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from merlin_images.environments.credentials import IndexCredentials

_KINDS = {"--index-url": "--default-index", "--extra-index-url": "--index"}


class IndexOptions:
    """``arguments`` and ``environment`` of uv for the builder's own index and those of
    requirements, which come later and so win."""

    def __init__(
        self, index_url: str, options: Sequence[str], credentials: IndexCredentials
    ) -> None:
        self.arguments: list[str] = []
        self.environment: dict[str, str] = {}
        own = [f"--index-url={index_url}"] if index_url else []
        if any(option.startswith("--index-url=") for option in options):
            own = []
        for number, option in enumerate((*own, *options)):
            self._add(f"merlin{number}", option, credentials)

    def _add(self, name: str, option: str, credentials: IndexCredentials) -> None:
        kind, _, url = option.partition("=")
        if kind == "--find-links" and credentials.for_url(url):
            # These have no names, so the address as a whole goes where nobody looks.
            before = self.environment.get("UV_FIND_LINKS")
            signed_in = credentials.within(url)
            self.environment["UV_FIND_LINKS"] = f"{before},{signed_in}" if before else signed_in
            return
        found = credentials.for_url(url) if kind in _KINDS else None
        if found is None or not urlsplit(url).hostname:
            self.arguments.append(option)
            return
        self.arguments.append(f"{_KINDS[kind]}={name}={url}")
        user, password = found
        self.environment[f"UV_INDEX_{name.upper()}_USERNAME"] = user
        self.environment[f"UV_INDEX_{name.upper()}_PASSWORD"] = password
