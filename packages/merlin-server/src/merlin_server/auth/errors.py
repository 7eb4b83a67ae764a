"""Errors of who may call."""

from __future__ import annotations

from merlin.errors import Kind, MerlinError


class NotSignedIn(MerlinError):
    """No token came with the request, or not a valid one. Answered with 401 and a challenge."""

    code = "not_signed_in"
    kind = Kind.DENIED
    hint = (
        "Send the header 'Authorization: Bearer merlin_...'; tools that only know user and"
        " password take the token as the password."
    )


class HostRefused(MerlinError):
    """The request was made for a host name that this server does not answer for."""

    code = "host_refused"
    kind = Kind.DENIED
    hint = "Use the address that `merlin up` printed, or set public_url to the one in use."


class OriginRefused(MerlinError):
    """A page of another site tried to change something through a person's browser."""

    code = "origin_refused"
    kind = Kind.DENIED
    hint = "Call the API from a program, or from a page of this server."


class TokenFileInvalid(MerlinError):
    """The token file cannot be used."""

    code = "token_file_invalid"
    kind = Kind.INVALID
    hint = "Delete it and start again: a new token is made."
