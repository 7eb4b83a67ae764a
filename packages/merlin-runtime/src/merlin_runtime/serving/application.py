"""The ASGI application: one fast lane, and everything else."""

from __future__ import annotations

from merlin_runtime.serving.asgi import App, Receive, Scope, Send
from merlin_runtime.serving.invocations_codec import PATH as INVOCATIONS
from merlin_runtime.serving.predict_route import GENERATE, PREFIX, SUFFIX, V2_INFER, PredictRoute


class Application:
    """Sends predictions to their route without any framework on the way."""

    def __init__(self, predict: PredictRoute, cold: App) -> None:
        self._predict = predict
        self._cold = cold

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if (
            (path.endswith(SUFFIX) and path.startswith(PREFIX))
            or V2_INFER.fullmatch(path)
            or GENERATE.fullmatch(path)
            or path == INVOCATIONS
        ):
            await self._predict(scope, receive, send)
        else:
            await self._cold(scope, receive, send)
