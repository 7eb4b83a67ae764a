"""The database's address, with the password that a file of its own may hold."""

from __future__ import annotations

from sqlalchemy import make_url

from merlin.artifacts.secret_files import read_secret
from merlin_server.settings import Settings


def database_address(settings: Settings) -> str:
    """Return the URL, password and all, or ``""`` for the data folder's own; never show it."""
    file = settings.database_password_file
    if not settings.database_url or file is None:
        return settings.database_url
    url = make_url(settings.database_url).set(password=read_secret(file))
    return url.render_as_string(hide_password=False)


def shown_address(address: str) -> str:
    """Return a URL that may be shown."""
    return make_url(address).set(query={}).render_as_string(hide_password=True)
