"""Errors of the SDK: what the server said, and what was wrong before it was asked."""

from __future__ import annotations

from typing import Any, ClassVar

from merlin.errors import Kind, MerlinError


class ApiError(MerlinError):
    """The server refused or failed. ``code`` and ``hint`` are the server's own where it sent any;
    ``status`` is the HTTP status."""

    # The server's code belongs to one answer, not to a class.
    code: str = "api_error"  # type: ignore[misc]
    kind = Kind.FAILED

    def __init__(
        self, message: str, *, status: int, code: str = "", hint: str | None = None, **data: Any
    ) -> None:
        super().__init__(message, hint=hint, **data)
        self.status = status
        if code:
            self.code = code


class InvalidRequest(ApiError):
    """The server did not accept what was asked."""

    kind = Kind.INVALID


class Denied(ApiError):
    """The token is missing, wrong or lacks a right."""

    kind = Kind.DENIED
    hint = "Sign in with `merlin login`, or set MERLIN_TOKEN."


class NotFound(ApiError):
    """The server knows no such thing."""

    kind = Kind.NOT_FOUND


class Conflict(ApiError):
    """What was asked contradicts the present state."""

    kind = Kind.CONFLICT


class TooLarge(ApiError):
    """More was sent than the server takes."""

    kind = Kind.TOO_LARGE


class ServerFailed(ApiError):
    """The server failed on its own account."""

    kind = Kind.INTERNAL
    hint = "The server's log has the details."


class UpstreamFailed(ApiError):
    """Something behind the server failed."""

    kind = Kind.UPSTREAM


class Unavailable(ApiError):
    """The server cannot answer now; the same request may work later."""

    kind = Kind.UNAVAILABLE


class Exhausted(ApiError):
    """The server has no space or quota left."""

    kind = Kind.EXHAUSTED


BY_STATUS: dict[int, type[ApiError]] = {
    400: InvalidRequest,
    401: Denied,
    403: Denied,
    404: NotFound,
    405: NotFound,
    409: Conflict,
    413: TooLarge,
    422: InvalidRequest,
    429: Unavailable,
    500: ServerFailed,
    502: UpstreamFailed,
    503: Unavailable,
    504: Unavailable,
    507: Exhausted,
}


class ServerUnreachable(MerlinError):
    """No answer: nothing is known about what the server did."""

    code = "server_unreachable"
    kind = Kind.UNAVAILABLE
    hint = "Start one with `merlin up`, or say where it is with MERLIN_URL or merlin.set_url()."


class BadAnswer(MerlinError):
    """Something answered, but not as Merlin does."""

    code = "answer_not_understood"
    kind = Kind.UPSTREAM
    hint = "Check that the address is a Merlin server's and that its version fits this SDK."


class InvalidUrl(MerlinError):
    """Not an address of a server."""

    code = "url_invalid"
    kind = Kind.USAGE
    hint = "Write it as http://127.0.0.1:8080, without user name or password."


class NotSetUp(MerlinError):
    """A fluent function was called before what it needs was set."""

    code = "not_set_up"
    kind = Kind.USAGE


class NoSuchName(MerlinError):
    """No project, model, version, environment or endpoint of this name, exactly."""

    code: ClassVar[str] = "name_not_found"
    kind = Kind.NOT_FOUND


class InvalidArgument(MerlinError):
    """A value cannot be meant."""

    code = "argument_invalid"
    kind = Kind.INVALID


class ModelFolderInvalid(MerlinError):
    """The folder is not what its model type needs."""

    code = "model_folder_invalid"
    kind = Kind.INVALID


class EnvironmentMissing(MerlinError):
    """A Python-function model came without the packages it needs."""

    code = "environment_missing"
    kind = Kind.INVALID
    hint = (
        "Pass conda_env as the path of a requirements.txt (one package a line, such as "
        "scikit-learn==1.7.2), the path of a conda.yaml, or a dict like "
        '{"dependencies": ["pip", {"pip": ["scikit-learn==1.7.2"]}]}.'
    )


class EnvironmentInvalid(MerlinError):
    """An environment file cannot be read as one."""

    code = "environment_invalid"
    kind = Kind.INVALID


class ModelNotPicklable(MerlinError):
    """The model instance cannot be written to a file."""

    code = "model_not_picklable"
    kind = Kind.INVALID
    hint = (
        "Open files, connections and locks in initialize() rather than in __init__(); "
        "what initialize() sets is not pickled."
    )


class ArtifactPlaceUnsupported(MerlinError):
    """The version's files lie where this SDK cannot reach."""

    code = "artifact_place_unsupported"
    kind = Kind.FAILED


class BuildFailed(MerlinError):
    """The image of a version could not be built."""

    code = "image_build_failed"
    kind = Kind.FAILED


class DeploymentFailed(MerlinError):
    """A version did not become ready. What ran before still runs.

    ``model_name``, ``version`` and ``details`` are what Merlin's own exception has.
    """

    code = "deployment_failed"
    kind = Kind.FAILED

    def __init__(
        self, model_name: str, version: int, details: str, *, hint: str | None = None, **data: Any
    ) -> None:
        super().__init__(
            f"Deploying {model_name} version {version} failed: {details}",
            hint=hint or f"See `merlin logs {model_name}:{version}`.",
            model=model_name,
            version=version,
            **data,
        )
        self.model_name = model_name
        self.version = version
        self.details = details


# The name under which Merlin's users catch it.
ModelEndpointDeploymentError = DeploymentFailed


class WaitedTooLong(MerlinError):
    """The deadline passed; the server goes on working."""

    code = "waited_too_long"
    kind = Kind.UNAVAILABLE


class PredictionFailed(MerlinError):
    """The model answered with an error."""

    code = "prediction_failed"
    kind = Kind.FAILED
