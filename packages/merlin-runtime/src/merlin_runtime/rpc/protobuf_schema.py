"""Message classes made at run time from a short description of a ``.proto`` file.

A field is written as in a proto3 file, without its name: ``"string 1"``, ``"repeated int64 3"``,
``"map InferParameter 4"`` (keys are strings), ``"choice:one bool 1"`` (a member of the oneof
``one``). Classes live in a pool of their own, so that a model that brings generated code for the
same package does not collide with them.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Tuple, cast

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_SCALARS = {
    "double": 1, "float": 2, "int64": 3, "uint64": 4, "int32": 5, "bool": 8, "string": 9,
    "bytes": 12, "uint32": 13,
}  # fmt: skip
_MESSAGE, _ENUM = 11, 14
_OPTIONAL, _REPEATED = 1, 3

Fields = Mapping[str, str]


class Method(NamedTuple):
    """One method of a service; ``streams`` says of request and answer whether they are many."""

    request: str
    response: str
    streams: Tuple[bool, bool] = (False, False)


class Schema:
    """One file: its classes by name (``schema["ModelInferRequest"]``) and its services."""

    def __init__(
        self,
        file: str,
        package: str,
        *,
        messages: Mapping[str, Fields],
        services: Mapping[str, Mapping[str, Method]],
        enums: Mapping[str, List[str]],
    ) -> None:
        self.package = package
        self.services = services
        described = descriptor_pb2.FileDescriptorProto(name=file, package=package, syntax="proto3")
        for name, values in enums.items():
            enum = described.enum_type.add(name=name)
            for number, value in enumerate(values):
                enum.value.add(name=value, number=number)
        for name, fields in messages.items():
            _describe(described.message_type.add(name=name), package, fields, enums)
        for name, methods in services.items():
            service = described.service.add(name=name)
            for method, (request, response, (client, server)) in methods.items():
                service.method.add(
                    name=method,
                    input_type=f".{package}.{request}",
                    output_type=f".{package}.{response}",
                    client_streaming=client,
                    server_streaming=server,
                )
        self.file = described
        pool = descriptor_pool.DescriptorPool()
        pool.Add(described)
        self._classes = {name: _message_class(pool, f"{package}.{name}") for name in messages}

    def __getitem__(self, name: str) -> Any:
        return self._classes[name]


def _describe(message: Any, package: str, fields: Fields, enums: Mapping[str, Any]) -> None:
    choices: Dict[str, int] = {}
    for name, text in fields.items():
        *label, kind, number = text.split(" ")
        field = message.field.add(name=name, number=int(number), label=_OPTIONAL)
        if label == ["map"]:
            entry = message.nested_type.add(name=f"{_camel(name)}Entry")
            entry.options.map_entry = True
            entry.field.add(name="key", number=1, label=_OPTIONAL, type=_SCALARS["string"])
            _set_type(
                entry.field.add(name="value", number=2, label=_OPTIONAL), package, kind, enums
            )
            field.label, field.type = _REPEATED, _MESSAGE
            field.type_name = f".{package}.{message.name}.{entry.name}"
            continue
        _set_type(field, package, kind, enums)
        if label == ["repeated"]:
            field.label = _REPEATED
        elif label:
            choice = label[0].partition(":")[2]
            if choice not in choices:
                choices[choice] = len(choices)
                message.oneof_decl.add(name=choice)
            field.oneof_index = choices[choice]


def _set_type(field: Any, package: str, kind: str, enums: Mapping[str, Any]) -> None:
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _ENUM if kind in enums else _MESSAGE
        field.type_name = f".{package}.{kind}"


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _message_class(pool: Any, full_name: str) -> Any:
    descriptor = pool.FindMessageTypeByName(full_name)
    make: Any = getattr(message_factory, "GetMessageClass", None)
    if make is None:  # protobuf before 4.22
        make = cast("Any", message_factory.MessageFactory(pool)).GetPrototype
    return make(descriptor)
