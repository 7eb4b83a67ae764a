"""``grpc.reflection``: what services and messages there are, for tools such as grpcurl."""

from __future__ import annotations

from typing import Any, AsyncIterator, Dict, Iterable, List

import grpc

from merlin_runtime.rpc.calls import service_handler
from merlin_runtime.rpc.schemas import reflection

PACKAGES = ("grpc.reflection.v1", "grpc.reflection.v1alpha")


class Reflection:
    """Tells of ``files``, which are ``FileDescriptorProto`` messages, and of all they import."""

    def __init__(self, files: Iterable[Any]) -> None:
        self._files: Dict[str, Any] = {file.name: file for file in files}
        self._symbols: Dict[str, str] = {}
        for file in self._files.values():
            for symbol in _symbols(file):
                self._symbols[symbol] = file.name

    def handlers(self) -> List[grpc.GenericRpcHandler]:
        """One for each version of the protocol; their messages are alike."""
        return [self._handler(package) for package in PACKAGES]

    def _handler(self, package: str) -> grpc.GenericRpcHandler:
        schema = reflection(package)

        async def info(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            del context
            async for request in requests:
                yield self._answer(schema, request)

        return service_handler(schema, "ServerReflection", {"ServerReflectionInfo": info})

    def _answer(self, schema: Any, request: Any) -> Any:
        answer = schema["ServerReflectionResponse"](
            valid_host=request.host, original_request=request
        )
        asked = request.WhichOneof("message_request")
        if asked == "list_services":
            for file in self._files.values():
                for service in file.service:
                    answer.list_services_response.service.add(name=f"{file.package}.{service.name}")
            return answer
        name = ""
        if asked == "file_by_filename":
            name = request.file_by_filename
        elif asked == "file_containing_symbol":
            name = self._symbols.get(request.file_containing_symbol, "")
        if name not in self._files:
            answer.error_response.error_code = grpc.StatusCode.NOT_FOUND.value[0]
            answer.error_response.error_message = "There is no such file, symbol or extension here."
            return answer
        answer.file_descriptor_response.file_descriptor_proto.extend(
            file.SerializeToString() for file in self._with_imports(name)
        )
        return answer

    def _with_imports(self, name: str) -> List[Any]:
        found: Dict[str, Any] = {}
        wanted = [name]
        while wanted:
            file = self._files.get(wanted.pop())
            if file is not None and file.name not in found:
                found[file.name] = file
                wanted.extend(file.dependency)
        return list(found.values())


def _symbols(file: Any) -> Iterable[str]:
    prefix = f"{file.package}." if file.package else ""
    for message in file.message_type:
        yield from _of_message(prefix, message)
    for enum in file.enum_type:
        yield f"{prefix}{enum.name}"
    for service in file.service:
        yield f"{prefix}{service.name}"
        for method in service.method:
            yield f"{prefix}{service.name}.{method.name}"


def _of_message(prefix: str, message: Any) -> Iterable[str]:
    yield f"{prefix}{message.name}"
    for nested in message.nested_type:
        yield from _of_message(f"{prefix}{message.name}.", nested)
    for enum in message.enum_type:
        yield f"{prefix}{message.name}.{enum.name}"
