"""Index options of a build in uv's terms: addresses as arguments, credentials as environment.

All can see command lines, so uv is told the names of indexes there, and who to be at each of them
in variables of its own, which only this user's processes can read.
"""

from __future__ import annotations

from collections.abc import Sequence

from merlin_images.environments.credentials import IndexCredentials

_FIND_LINKS = "--find-links="
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
        every = [*own, *options]
        links = [option for option in every if option.startswith(_FIND_LINKS)]
        for number, option in enumerate(each for each in every if each not in links):
            self._add(f"merlin{number}", option, credentials)
        self._add_links([option.removeprefix(_FIND_LINKS) for option in links], credentials)

    def _add(self, name: str, option: str, credentials: IndexCredentials) -> None:
        kind, _, url = option.partition("=")
        found = credentials.for_url(url) if kind in _KINDS else None
        if found is None:
            self.arguments.append(option)
            return
        self.arguments.append(f"{_KINDS[kind]}={name}={url}")
        user, password = found
        self.environment[f"UV_INDEX_{name.upper()}_USERNAME"] = user
        self.environment[f"UV_INDEX_{name.upper()}_PASSWORD"] = password

    def _add_links(self, links: Sequence[str], credentials: IndexCredentials) -> None:
        """These have no names: where one needs credentials, all go where nobody looks, because uv
        reads the variable only if there is no argument."""
        signed_in = [credentials.within(url) for url in links]
        if signed_in == list(links):
            self.arguments += [f"{_FIND_LINKS}{url}" for url in links]
        else:
            self.environment["UV_FIND_LINKS"] = ",".join(signed_in)
