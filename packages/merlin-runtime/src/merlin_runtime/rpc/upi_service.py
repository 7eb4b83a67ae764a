"""``caraml.upi.v1.UniversalPredictionService``: Merlin's Universal Prediction Interface.

Its messages are those of ``caraml-upi-protos``, which a model that builds them has imported
already; user code gets and gives exactly these classes.
"""

from __future__ import annotations

from typing import Any, List, Optional, Tuple

import grpc
from caraml.upi.v1 import upi_pb2
from google.protobuf import descriptor_pb2
from grpc import aio

from merlin_runtime.errors import AnswerNotSerialisable
from merlin_runtime.rpc.calls import CallAborted, PredictionCalls
from merlin_runtime.rpc.inference_codec import parsed

SERVICE = "caraml.upi.v1.UniversalPredictionService"


class UpiService:
    """``PredictValues``, answered by the model's ``upiv1_infer`` or its UPI steps."""

    def __init__(self, calls: PredictionCalls) -> None:
        self._calls = calls

    def handler(self) -> grpc.GenericRpcHandler:
        predict: Any = grpc.unary_unary_rpc_method_handler(self._predict_values, None, None)
        return grpc.method_handlers_generic_handler(SERVICE, {"PredictValues": predict})

    async def _predict_values(self, body: bytes, context: aio.ServicerContext[Any, Any]) -> bytes:
        codec = UpiCodec(CallContext(context))
        answer = await self._calls.answer(body, context, codec)
        codec.context.leave_marks(context)
        return answer


class UpiCodec:
    """For one call: the model takes the request and its context, and gives the response."""

    answer_headers: List[Tuple[bytes, bytes]] = []  # noqa: RUF012

    def __init__(self, context: CallContext) -> None:
        self.context = context

    def decode(self, body: bytes) -> Any:
        return parsed(upi_pb2.PredictValuesRequest, body), self.context

    def encode(self, answer: Any) -> bytes:
        if self.context.code not in {None, grpc.StatusCode.OK}:
            raise CallAborted(self.context.code, self.context.details)
        if not isinstance(answer, upi_pb2.PredictValuesResponse):
            raise AnswerNotSerialisable(
                f"The model answered with a {type(answer).__name__}, not a PredictValuesResponse."
            )
        written: bytes = answer.SerializeToString()
        return written


class CallContext:
    """What user code may do with gRPC's context, from the thread that it runs in."""

    def __init__(self, context: aio.ServicerContext[Any, Any]) -> None:
        self._context = context
        self._metadata = tuple(context.invocation_metadata() or ())
        self._trailing: Optional[Tuple[Any, ...]] = None
        self.code: Any = None
        self.details = ""

    def invocation_metadata(self) -> Tuple[Any, ...]:
        return self._metadata

    def peer(self) -> str:
        return self._context.peer()

    def time_remaining(self) -> Optional[float]:
        return self._context.time_remaining()

    def is_active(self) -> bool:
        return not self._context.done()

    def set_trailing_metadata(self, metadata: Tuple[Any, ...]) -> None:
        self._trailing = tuple(metadata)

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def abort(self, code: grpc.StatusCode, details: str) -> None:
        """End the call with this status; does not return."""
        raise CallAborted(code, details)

    def leave_marks(self, context: aio.ServicerContext[Any, Any]) -> None:
        """Send what the model set for the client. On the server's event loop only."""
        if self._trailing is not None:
            context.set_trailing_metadata((*self._trailing, *(context.trailing_metadata() or ())))


def files() -> List[Any]:
    """Return descriptions of the service's file and of all it imports, for reflection."""
    found = {}
    wanted = [upi_pb2.DESCRIPTOR]
    while wanted:
        descriptor = wanted.pop()
        if descriptor.name not in found:
            found[descriptor.name] = file = descriptor_pb2.FileDescriptorProto()
            descriptor.CopyToProto(file)
            wanted.extend(descriptor.dependencies)
    return list(found.values())
