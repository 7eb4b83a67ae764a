"""Everything that can go wrong here, as a client or a deployer sees it.

The runtime stands alone on the model's interpreter, so these do not derive from
``merlin.errors.MerlinError``; they keep its wire shape (``error``, ``code``) and add
``status_code`` and ``reason``, which clients of Merlin's own server read.
"""

from __future__ import annotations

from typing import Any, ClassVar, Dict, List, Optional


class ServingError(Exception):
    """A request that gets no prediction. The message is sent to the client: it never holds what
    the model raised, nor anything of other requests."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retry_after_seconds: ClassVar[Optional[int]] = None
    allow: ClassVar[Optional[str]] = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def to_dict(self) -> Dict[str, Any]:
        return {
            "error": self.message,
            "code": self.code,
            "status_code": self.status,
            "reason": self.message,
        }


class RequestMalformed(ServingError):
    """Not HTTP, or HTTP of doubtful meaning; the connection is closed."""

    code = "request_malformed"
    status = 400


class RequestTimedOut(ServingError):
    """A request of which the rest did not come; the connection is closed."""

    code = "request_timed_out"
    status = 408


class HeadTooLarge(ServingError):
    """Request line and headers beyond the limit; the connection is closed."""

    code = "head_too_large"
    status = 431


class NotJson(ServingError):
    """The body is not a JSON document."""

    code = "body_not_json"
    status = 400


class InputInvalid(ServingError):
    """JSON, but not what this model takes."""

    code = "input_invalid"
    status = 400


class ModelNotFound(ServingError):
    """Another model's name in the path."""

    code = "model_not_found"
    status = 404


class RouteNotFound(ServingError):
    """No such path."""

    code = "route_not_found"
    status = 404


class MethodNotAllowed(ServingError):
    """The path exists, the method does not."""

    code = "method_not_allowed"
    status = 405


class PredictTakesPost(MethodNotAllowed):
    """Predictions are asked for with POST."""

    allow = "POST"


class BodyTooLarge(ServingError):
    """More bytes than ``--max-body-bytes``, announced or counted."""

    code = "body_too_large"
    status = 413


class EncodingUnsupported(ServingError):
    """A compressed body."""

    code = "content_encoding_unsupported"
    status = 415


class ArrowNeedsPyarrow(ServingError):
    """Arrow was sent or asked for where there is no pyarrow."""

    code = "arrow_needs_pyarrow"
    status = 415


class Overloaded(ServingError):
    """The queue is full. The request was not started: sending it again is safe."""

    code = "overloaded"
    status = 429
    retry_after_seconds = 1


class ModelRaised(ServingError):
    """The model's code raised; ``__cause__`` holds the exception, for the log only."""

    code = "model_raised"
    status = 500


class AnswerNotSerialisable(ServingError):
    """The model's answer has no JSON form."""

    code = "answer_not_serialisable"
    status = 500


class BatchMiscounted(ServingError):
    """A model's ``infer_batch`` did not give one answer for each request."""

    code = "batch_miscounted"
    status = 500


class AnswerTooLong(ServingError):
    """A model that streams, and a client that takes one JSON document, which has a limit."""

    code = "answer_too_long"
    status = 500


class ProtocolNotServed(ServingError):
    """A prediction over HTTP, asked of a deployment that speaks UPI_V1."""

    code = "protocol_not_served"
    status = 501


class V2NeedsNumpy(ServingError):
    """The V2 protocol was asked for where there is no numpy."""

    code = "v2_needs_numpy"
    status = 501


class NotReady(ServingError):
    """The model is still being loaded."""

    code = "model_not_ready"
    status = 503
    retry_after_seconds = 1


class Stopping(ServingError):
    """The process ends before this prediction could be made."""

    code = "stopping"
    status = 503
    retry_after_seconds = 1


class AddressUnavailable(Exception):
    """A port cannot be listened on; the message names it."""


class UsageError(Exception):
    """An option or environment variable has a wrong value."""


class ModelLoadFailed(Exception):
    """The model cannot be served; the message names the culprit.

    ``missing_module`` is set when an import found nothing: the environment lacks a package.
    ``where`` is ``file:line`` of the user's code that failed.
    """

    code: ClassVar[str] = "model_load_failed"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        missing_module: Optional[str] = None,
        where: Optional[str] = None,
        found: Optional[List[str]] = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.missing_module = missing_module
        self.where = where
        self.found = found

    def to_dict(self) -> Dict[str, Any]:
        optional = {
            "hint": self.hint or None,
            "where": self.where,
            "found": self.found,
        }
        return {
            "error": self.message,
            "code": self.code,
            "missing_module": self.missing_module,
            **{key: value for key, value in optional.items() if value is not None},
        }
