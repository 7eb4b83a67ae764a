"""A model on the wire with its stable addresses."""

from __future__ import annotations

from merlin_server.models.model import ModelFields
from merlin_server.traffic.model import ModelEndpoint


class Model(ModelFields):
    """A named series of versions of one type."""

    endpoints: list[ModelEndpoint]
