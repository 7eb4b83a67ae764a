"""The protocols, as their published ``.proto`` files have them (names, numbers, types)."""

from __future__ import annotations

from merlin_runtime.rpc.protobuf_schema import Method, Schema

_TENSOR = {
    "name": "string 1",
    "datatype": "string 2",
    "shape": "repeated int64 3",
    "parameters": "map InferParameter 4",
    "contents": "InferTensorContents 5",
}
_NAMED = {"name": "string 1", "version": "string 2"}

INFERENCE = Schema(
    "open_inference_grpc.proto",
    "inference",
    enums={},
    messages={
        "ServerLiveRequest": {},
        "ServerLiveResponse": {"live": "bool 1"},
        "ServerReadyRequest": {},
        "ServerReadyResponse": {"ready": "bool 1"},
        "ModelReadyRequest": _NAMED,
        "ModelReadyResponse": {"ready": "bool 1"},
        "ServerMetadataRequest": {},
        "ServerMetadataResponse": {**_NAMED, "extensions": "repeated string 3"},
        "ModelMetadataRequest": _NAMED,
        "TensorMetadata": {
            "name": "string 1",
            "datatype": "string 2",
            "shape": "repeated int64 3",
        },
        "ModelMetadataResponse": {
            "name": "string 1",
            "versions": "repeated string 2",
            "platform": "string 3",
            "inputs": "repeated TensorMetadata 4",
            "outputs": "repeated TensorMetadata 5",
        },
        "InferParameter": {
            "bool_param": "choice:parameter_choice bool 1",
            "int64_param": "choice:parameter_choice int64 2",
            "string_param": "choice:parameter_choice string 3",
            "double_param": "choice:parameter_choice double 4",
            "uint64_param": "choice:parameter_choice uint64 5",
        },
        "InferTensorContents": {
            "bool_contents": "repeated bool 1",
            "int_contents": "repeated int32 2",
            "int64_contents": "repeated int64 3",
            "uint_contents": "repeated uint32 4",
            "uint64_contents": "repeated uint64 5",
            "fp32_contents": "repeated float 6",
            "fp64_contents": "repeated double 7",
            "bytes_contents": "repeated bytes 8",
        },
        "InferInputTensor": _TENSOR,
        "InferRequestedOutputTensor": {
            "name": "string 1",
            "parameters": "map InferParameter 2",
        },
        "InferOutputTensor": _TENSOR,
        "ModelInferRequest": {
            "model_name": "string 1",
            "model_version": "string 2",
            "id": "string 3",
            "parameters": "map InferParameter 4",
            "inputs": "repeated InferInputTensor 5",
            "outputs": "repeated InferRequestedOutputTensor 6",
            "raw_input_contents": "repeated bytes 7",
        },
        "ModelInferResponse": {
            "model_name": "string 1",
            "model_version": "string 2",
            "id": "string 3",
            "parameters": "map InferParameter 4",
            "outputs": "repeated InferOutputTensor 5",
            "raw_output_contents": "repeated bytes 6",
        },
    },
    services={
        "GRPCInferenceService": {
            name: Method(f"{name}Request", f"{name}Response")
            for name in (
                *("ServerLive", "ServerReady", "ModelReady"),
                *("ServerMetadata", "ModelMetadata", "ModelInfer"),
            )
        }
    },
)

HEALTH = Schema(
    "grpc/health/v1/health.proto",
    "grpc.health.v1",
    enums={"ServingStatus": ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"]},
    messages={
        "HealthCheckRequest": {"service": "string 1"},
        "HealthCheckResponse": {"status": "ServingStatus 1"},
    },
    services={
        "Health": {
            "Check": Method("HealthCheckRequest", "HealthCheckResponse"),
            "Watch": Method("HealthCheckRequest", "HealthCheckResponse", (False, True)),
        }
    },
)


def reflection(package: str) -> Schema:
    """Return server reflection, which has the same text in ``v1`` and ``v1alpha``."""
    return Schema(
        f"{package.replace('.', '/')}/reflection.proto",
        package,
        enums={},
        messages={
            "ExtensionRequest": {"containing_type": "string 1", "extension_number": "int32 2"},
            "ServerReflectionRequest": {
                "host": "string 1",
                "file_by_filename": "choice:message_request string 3",
                "file_containing_symbol": "choice:message_request string 4",
                "file_containing_extension": "choice:message_request ExtensionRequest 5",
                "all_extension_numbers_of_type": "choice:message_request string 6",
                "list_services": "choice:message_request string 7",
            },
            "FileDescriptorResponse": {"file_descriptor_proto": "repeated bytes 1"},
            "ExtensionNumberResponse": {
                "base_type_name": "string 1",
                "extension_number": "repeated int32 2",
            },
            "ServiceResponse": {"name": "string 1"},
            "ListServiceResponse": {"service": "repeated ServiceResponse 1"},
            "ErrorResponse": {"error_code": "int32 1", "error_message": "string 2"},
            "ServerReflectionResponse": {
                "valid_host": "string 1",
                "original_request": "ServerReflectionRequest 2",
                "file_descriptor_response": "choice:message_response FileDescriptorResponse 4",
                "all_extension_numbers_response": (
                    "choice:message_response ExtensionNumberResponse 5"
                ),
                "list_services_response": "choice:message_response ListServiceResponse 6",
                "error_response": "choice:message_response ErrorResponse 7",
            },
        },
        services={
            "ServerReflection": {
                "ServerReflectionInfo": Method(
                    "ServerReflectionRequest", "ServerReflectionResponse", (True, True)
                )
            }
        },
    )
