"""What runs log: values as they arrive, with the limits MLflow's clients expect.

Every text is one a database can keep: without NUL and without half surrogate pairs, which SQLite or
PostgreSQL would refuse only when it is too late for a clear answer.
"""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

_NAME = re.compile(r"[/\w.\- :]+")


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain the NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode text") from None
    return text


def _entity_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"'{name}' is not allowed: names hold letters, digits, underscores, dashes, periods, "
            "spaces, colons and slashes only"
        )
    if posixpath.normpath(name) != name or name.startswith(("/", "..")) or name == ".":
        raise ValueError(f"'{name}' is not allowed: read as a path it would name something else")
    return name


Text = Annotated[str, AfterValidator(_storable)]
EntityName = Annotated[
    str, Field(max_length=250), AfterValidator(_storable), AfterValidator(_entity_name)
]
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Milliseconds = Annotated[int, Field(ge=0, lt=2**63)]


class Value(BaseModel):
    """A message of the protocol: unknown fields are ignored and ``null`` means absent."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", coerce_numbers_to_str=True, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if value is not None}
        return data


class Param(Value):
    """A parameter; written once."""

    key: EntityName
    value: Annotated[Text, Field(max_length=6000)] = ""


class Tag(Value):
    """A tag of a run or a logged model."""

    key: EntityName
    value: Annotated[Text, Field(max_length=8000)] = ""


class ExperimentTag(Value):
    """A tag of an experiment."""

    key: EntityName
    value: Annotated[Text, Field(max_length=20000)] = ""


class Metric(Value):
    """One measurement; the value may be NaN or infinite."""

    key: EntityName
    value: float
    timestamp: Milliseconds = 0
    step: Int64 = 0
    model_id: Annotated[Text, Field(max_length=64)] | None = None
    dataset_name: Annotated[Text, Field(max_length=500)] | None = None
    dataset_digest: Annotated[Text, Field(max_length=36)] | None = None


class InputTag(Value):
    """A tag of a run's use of a data set."""

    key: Annotated[Text, Field(max_length=255)]
    value: Annotated[Text, Field(max_length=500)] = ""


class Dataset(Value):
    """A data set as its client describes it; the source is never opened here."""

    name: Annotated[Text, Field(min_length=1, max_length=500)]
    digest: Annotated[Text, Field(min_length=1, max_length=36)]
    source_type: Text = ""
    source: Annotated[Text, Field(max_length=65_535)] = ""
    schema_: Annotated[Text, Field(max_length=1_048_575)] | None = Field(None, alias="schema")
    profile: Annotated[Text, Field(max_length=16_777_215)] | None = None


class DatasetInput(Value):
    """A data set a run read, and as what."""

    dataset: Dataset
    tags: tuple[InputTag, ...] = ()


class ModelLink(Value):
    """A logged model a run read or made."""

    model_id: Annotated[Text, Field(min_length=1, max_length=64)]
    step: Int64 = 0
