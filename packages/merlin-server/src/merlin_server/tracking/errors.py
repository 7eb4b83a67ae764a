"""Errors of tracking. `mlflow_api.answers` writes them the way MLflow clients parse them."""

from __future__ import annotations

from merlin.errors import Kind, MerlinError


class TrackingError(MerlinError):
    """Base of all tracking errors."""

    code = "tracking_error"
    kind = Kind.FAILED


class InvalidTrackingRequest(TrackingError):
    """A field, filter, page token or path is not what the protocol allows."""

    code = "tracking_request_invalid"
    kind = Kind.INVALID


class TrackingNotFound(TrackingError):
    """There is no such experiment, run, logged model or artifact."""

    code = "tracking_not_found"
    kind = Kind.NOT_FOUND


class TrackingConflict(TrackingError):
    """The name is taken."""

    code = "tracking_conflict"
    kind = Kind.CONFLICT


class UnknownMlflowEndpoint(TrackingError):
    """The MLflow API has or may have this path, the built-in tracking does not."""

    code = "tracking_endpoint_unknown"
    kind = Kind.NOT_FOUND
    hint = "Use another MLflow server through the setting tracking_url if you need it."


class NotSupportedByTracking(TrackingError):
    """An optional power of MLflow servers that clients know how to do without."""

    code = "tracking_not_supported"
    kind = Kind.FAILED


class ArtifactsLeft(TrackingError):
    """Some files of what is deleted could not be removed; deleting it again goes on with them."""

    code = "tracking_artifacts_left"
    kind = Kind.UPSTREAM
    hint = "Check that the server's credentials may delete there; it is tried again by itself."


class TrackingServerDenied(TrackingError):
    """The configured MLflow server refused us."""

    code = "tracking_server_denied"
    kind = Kind.UPSTREAM
    hint = "Check the credentials Merlin uses for the MLflow server."


class TrackingServerFailed(TrackingError):
    """The configured MLflow server answered with an error or not in its protocol."""

    code = "tracking_server_failed"
    kind = Kind.UPSTREAM
    hint = "Check that tracking_url is the address of an MLflow server, and read its log."


class TrackingServerUnavailable(TrackingError):
    """The configured MLflow server could not be reached in time."""

    code = "tracking_server_unavailable"
    kind = Kind.UNAVAILABLE
    hint = "Check that the MLflow server is up and that tracking_url is right, then try again."
