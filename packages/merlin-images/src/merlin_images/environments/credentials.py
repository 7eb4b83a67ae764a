"""Credentials of package indexes: from a netrc file, or from variables that requirements name.

Requirements may say ``https://${USER}:${TOKEN}@host/simple``, as pip's do. Only the names of the
variables are read from there. What they stand for is looked up when a host is asked, is sent to
that host alone, and stands in no specification, lock, command line, error or repr.
"""

from __future__ import annotations

import netrc
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from merlin_images.environments.errors import CredentialsMissing
from merlin_images.environments.model import CredentialNames

_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")


class IndexCredentials:
    """Answers who to be at a host; safe for many threads.

    ``netrc_file`` is used instead of ``$NETRC`` or ``~/.netrc``. ``variables`` is what requirements
    may name: whoever passes an environment lets every model's author send it to a host of theirs.
    """

    def __init__(
        self, netrc_file: Path | None = None, variables: Mapping[str, str] | None = None
    ) -> None:
        default = os.environ.get("NETRC") or Path.home() / ".netrc"
        self._file = netrc_file or Path(default)
        self._variables = variables or {}
        self._named: dict[str, CredentialNames] = {}

    def __repr__(self) -> str:
        return f"IndexCredentials({str(self._file)!r})"

    def learn(self, names: Iterable[CredentialNames]) -> None:
        """Take what requirements said about hosts. Raises `CredentialsMissing` naming a variable
        that is not there, unless the netrc file knows the host."""
        for each in names:
            self._named[each.host] = each
            self.for_url(f"https://{each.host}/")

    def for_url(self, url: str) -> tuple[str, str] | None:
        """Return user name and password for the host (and port) of an address, if any."""
        host = host_of(url)
        named = self._named.get(host)
        if named:
            unset = [name for name in named.variables if name not in self._variables]
            if not unset:
                return self._expanded(named.user), self._expanded(named.password)
            if found := self._from_netrc(host):
                return found
            raise CredentialsMissing(
                f"There are no credentials for {host}: {named.place} names "
                f"{', '.join(unset)}, which the builder does not have.",
                host=host,
                variables=unset,
            )
        return self._from_netrc(host)

    def within(self, url: str) -> str:
        """Return the address with its credentials in it, for who takes them no other way."""
        found = self.for_url(url)
        if found is None:
            return url
        parts = urlsplit(url)
        user, password = (quote(text, safe="") for text in found)
        return parts._replace(netloc=f"{user}:{password}@{parts.netloc}").geturl()

    def _expanded(self, text: str) -> str:
        return _VARIABLE.sub(lambda match: self._variables[match[1]], text)

    def _from_netrc(self, host: str) -> tuple[str, str] | None:
        try:
            known = netrc.netrc(str(self._file))
        except (OSError, netrc.NetrcParseError):
            return None
        found = known.hosts.get(host) or known.hosts.get(host.rpartition(":")[0] or host)
        return (found[0], found[2]) if found else None


def host_of(url: str) -> str:
    """Return host and, if one is given, port of an address, without credentials."""
    return urlsplit(url).netloc.rpartition("@")[2].lower()
