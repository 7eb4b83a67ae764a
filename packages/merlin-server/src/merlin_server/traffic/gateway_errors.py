"""What callers of a model's address are told when the model cannot answer."""

from __future__ import annotations

from merlin.errors import Kind, MerlinError


class AddressUnknown(MerlinError):
    """No model answers at this path."""

    code = "address_unknown"
    kind = Kind.NOT_FOUND
    hint = "Deploy the version, or send the model's traffic to a version; see `merlin status`."


class EndpointNotReady(MerlinError):
    """The address is known, and nothing behind it can answer now."""

    code = "endpoint_not_ready"
    kind = Kind.UNAVAILABLE
    hint = "Try again after the time in Retry-After; `merlin status` says what it waits for."


class EndpointUnreachable(MerlinError):
    """The model's process refuses connections."""

    code = "endpoint_unreachable"
    kind = Kind.UNAVAILABLE
    hint = "It may be restarting. Try again; `merlin logs` shows what it last said."


class EndpointBroke(MerlinError):
    """The model's process ended the connection before it answered."""

    code = "endpoint_broke"
    kind = Kind.UPSTREAM
    hint = "The process may have died of this request; see `merlin logs`."


class EndpointTooSlow(MerlinError):
    """The model did not answer in time."""

    code = "endpoint_too_slow"
    kind = Kind.UPSTREAM
    hint = "Send smaller requests, or make the model faster."


class BodyTooLarge(MerlinError):
    """The request's body is larger than the gateway forwards."""

    code = "body_too_large"
    kind = Kind.TOO_LARGE
    hint = "Send fewer rows at once, or raise limits.predict_bytes in the server's settings."
