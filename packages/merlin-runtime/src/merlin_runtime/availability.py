"""Whether the model's environment has what was asked for; asked before anything is imported."""

from __future__ import annotations

from importlib.util import find_spec

from merlin_runtime.settings import UPI


def missing_for_grpc(protocol: str) -> str:
    """Return the package to install for a protocol, or nothing."""
    if not (_found("grpc") and _found("google.protobuf")):
        return "grpcio and protobuf (merlin-runtime[grpc])"
    if protocol == UPI and not _found("caraml.upi.v1"):
        return "caraml-upi-protos"
    return ""


def missing_for_publisher() -> str:
    """Return the package to install for prediction logs, or nothing."""
    if not _found("confluent_kafka"):
        return "confluent-kafka (merlin-runtime[publisher])"
    if not _found("caraml.upi.v1"):
        return "caraml-upi-protos (merlin-runtime[publisher])"
    return ""


def _found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
