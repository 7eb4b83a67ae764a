"""The policy in front of everything: API, pages, tracking, registry and gateway."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from merlin.errors import MerlinError
from merlin_server.auth.errors import NotSignedIn
from merlin_server.auth.policy import Policy
from merlin_server.http_errors import error_response

# Docker and skopeo ask for user and password where they see Basic, and so do browsers.
_BASIC_PATHS = ("/v2", "/openapi.json", "/swagger.yaml", "/metrics")


class AuthMiddleware:
    """Answers what the policy refuses; the app behind never sees it, nor our token: models are
    behind it, too, and whoever has the token may do everything."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            try:
                self._policy.check(scope["method"], scope["path"], headers)
            except MerlinError as error:
                response = error_response(error)
                if isinstance(error, NotSignedIn):
                    response.status_code = 401
                    response.headers["WWW-Authenticate"] = _challenge(scope["path"])
                await response(scope, receive, send)
                return
            if self._policy.is_token(headers.get("authorization", "")):
                kept = [each for each in scope["headers"] if each[0] != b"authorization"]
                scope = {**scope, "headers": kept}
        await self._app(scope, receive, send)


def _challenge(path: str) -> str:
    basic = path == "/" or path.startswith(_BASIC_PATHS)
    return 'Basic realm="merlin"' if basic else 'Bearer realm="merlin"'
