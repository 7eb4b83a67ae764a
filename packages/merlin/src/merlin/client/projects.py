"""A project: the tenant that models belong to."""

from __future__ import annotations

from typing import Any

from pydantic import PrivateAttr

from merlin.client.api import Api
from merlin.client.errors import InvalidArgument, NoSuchName
from merlin.client.models import Model
from merlin.client.resource import Resource, parse
from merlin.model import ModelType


class Project(Resource):
    """One project, as it was when it was read."""

    id: int
    name: str
    mlflow_tracking_url: str | None = None
    administrators: list[str] | None = None
    readers: list[str] | None = None
    created_at: Any = None
    updated_at: Any = None

    _tracking: Api = PrivateAttr()

    @classmethod
    def of(cls, api: Api, body: Any) -> Project:
        """Read a project. Its runs are kept where it says, which is mostly the server itself."""
        row = parse(cls, body)
        place = (row.mlflow_tracking_url or api.url).rstrip("/")
        # Merlin's token is only for Merlin.
        return cls.bound(api, body, tracking=api if place == api.url else Api(place))

    @property
    def api(self) -> Api:
        """The server it was read from."""
        return self._api

    @property
    def tracking(self) -> Api:
        """The MLflow server of its runs."""
        return self._tracking

    @property
    def url(self) -> str:
        """The page of this project."""
        return f"{self._api.url}/projects/{self.id}"

    def list_model(self) -> list[Model]:
        """All models of the project."""
        return [Model.of(self, row) for row in self._api.get(self._models) or []]

    def get_model(self, name: str) -> Model:
        """Return the model of this name, exactly. Raises `NoSuchName`."""
        found = self._find_model(name)
        if found is None:
            raise NoSuchName(
                f"The project {self.name} has no model {name!r}.",
                hint="See its models with `merlin status`.",
            )
        return found

    def get_or_create_model(self, name: str, model_type: ModelType | str | None = None) -> Model:
        """Return the model of this name, exactly, or create it; only that needs the type."""
        wanted = _model_type(model_type)
        found = self._find_model(name)
        if found is None:
            if wanted is None:
                raise NoSuchName(
                    f"The project {self.name} has no model {name!r}, and creating it needs a type.",
                    hint=f"Types: {', '.join(kind.value for kind in ModelType)}.",
                )
            body = {"name": name, "type": wanted.value}
            return Model.of(self, self._api.post(self._models, body))
        if wanted not in (None, found.type):
            raise InvalidArgument(
                f"The model {name} is of type {found.type.value}, not {wanted.value}.",
                hint="Use another model name; the type of a model never changes.",
            )
        return found

    def create_secret(self, name: str, data: str) -> None:
        """Store a secret value under ``name``."""
        self._api.post(self._secrets, {"name": name, "data": data})

    def list_secret(self) -> list[str]:
        """Names of the project's secrets; values are never read."""
        return [row["name"] for row in self._api.get(self._secrets) or []]

    def update_secret(self, name: str, data: str) -> None:
        """Replace the value of a secret."""
        secret_id = self._secret_id(name)
        body = {"id": secret_id, "name": name, "data": data}
        self._api.patch(f"{self._secrets}/{secret_id}", body)

    def delete_secret(self, name: str) -> None:
        """Delete a secret."""
        self._api.delete(f"{self._secrets}/{self._secret_id(name)}")

    @property
    def _models(self) -> str:
        return f"/v1/projects/{self.id}/models"

    @property
    def _secrets(self) -> str:
        return f"/v1/projects/{self.id}/secrets"

    def _find_model(self, name: str) -> Model | None:
        # The server's filter matches the beginning of names.
        for row in self._api.get(self._models, {"name": name}) or []:
            if row["name"] == name:
                return Model.of(self, row)
        return None

    def _secret_id(self, name: str) -> int:
        for row in self._api.get(self._secrets) or []:
            if row["name"] == name:
                return int(row["id"])
        raise NoSuchName(f"The project {self.name} has no secret {name!r}.")


def _model_type(given: ModelType | str | None) -> ModelType | None:
    try:
        return ModelType(given) if given is not None else None
    except ValueError:
        raise InvalidArgument(
            f"There is no model type {given!r}.",
            hint=f"Types: {', '.join(kind.value for kind in ModelType)}.",
        ) from None
