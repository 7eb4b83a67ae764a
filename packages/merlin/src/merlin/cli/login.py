"""``merlin login``."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

from cyclopts import Parameter

from merlin.cli import profile
from merlin.cli.options import DEFAULTS, Common
from merlin.client import MerlinClient
from merlin.client.errors import Denied


def login(
    *,
    token_stdin: Annotated[bool, Parameter(negative=())] = False,
    common: Common = DEFAULTS,
) -> None:
    """Remember a server and how to sign in there.

    The token is asked for only if the server wants one, and never given on the command line.

    For example:

      merlin login --url http://127.0.0.1:8080
      merlin login --url https://merlin.example.com --token-stdin < token.txt

    Parameters
    ----------
    token_stdin
        Read the token from stdin.
    """
    url = profile.load(common.url).url
    token = sys.stdin.readline().strip() if token_stdin else ""
    try:
        client = MerlinClient(url, token=token)
        client.list_project()
    except Denied:
        if token or not sys.stdin.isatty():
            raise
        token = getpass.getpass(f"Token for {url}: ").strip()
        client = MerlinClient(url, token=token)
        client.list_project()
    path = profile.save(client.url, token or None, common.project)
    common.tell(
        f"Signed in at {client.url}; remembered in {path}.",
        {"url": client.url, "config": str(path), "token": bool(token)},
    )
