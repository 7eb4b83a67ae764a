"""``merlin predict``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx2
from cyclopts import Parameter

from merlin.cli.errors import InputInvalid, UsageError
from merlin.cli.options import DEFAULTS, Common, ModelReference
from merlin.client.api import error_of
from merlin.client.environments import choose_environment
from merlin.client.errors import NoSuchName, PredictionFailed
from merlin.client.models import Model
from merlin.endpoint import Status


def predict(
    model: str,
    stdin: Annotated[Literal["-"] | None, Parameter(allow_leading_hyphen=True)] = None,
    /,
    *,
    text: Annotated[str | None, Parameter(name="--json")] = None,
    file: Path | None = None,
    env: str | None = None,
    common: Common = DEFAULTS,
) -> None:
    """Ask a model for predictions and print its answer.

    For example:

      merlin predict cancer --json '{"instances": [[5.1, 3.5, 1.4, 0.2]]}'
      merlin predict cancer --file request.json
      merlin predict cancer:3 - < request.json

    Parameters
    ----------
    model
        MODEL asks the model's address, MODEL:VERSION one version.
    stdin
        A single - reads the request from stdin.
    text
        The request, as JSON.
    file
        A file that holds the request.
    env
        Environment to ask in; otherwise the server's default.
    """
    reference = ModelReference.parse(model)
    body = _body(stdin, text, file)
    found = reference.find_model(common.open_project())
    address = _address(found, reference, env)
    response = found.api.call(address, body)
    if not response.is_success:
        raise _failure(response, model)
    answer = _answer(response)
    common.tell(json.dumps(answer, ensure_ascii=False), answer)


def _body(stdin: str | None, text: str | None, file: Path | None) -> bytes:
    given = [source for source in (stdin, text, file) if source is not None]
    if len(given) != 1:
        raise UsageError(
            "The request is given " + ("more than once." if given else "nowhere."),
            hint="Give one of --json TEXT, --file FILE or - for stdin.",
        )
    if text is not None:
        where, body = "--json", text.encode()
    elif file is not None and str(file) != "-":
        where, body = str(file), _read(file)
    else:
        where, body = "stdin", sys.stdin.buffer.read()
    try:
        json.loads(body)
    except json.JSONDecodeError as error:
        raise InputInvalid(
            f"{where} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None
    except UnicodeDecodeError:
        raise InputInvalid(f"{where} is not JSON: it is not text in UTF-8.") from None
    return body


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputInvalid(f"Cannot read {file}: {error.strerror}.") from error


def _address(model: Model, reference: ModelReference, env: str | None) -> str:
    environment = choose_environment(model.api, env).name
    if reference.version is None:
        for stable in model.list_endpoint():
            if stable.environment_name == environment and stable.status is Status.SERVING:
                return stable.url
    else:
        for endpoint in model.get_version(reference.version).list_endpoint():
            if endpoint.environment_name == environment and endpoint.live:
                return endpoint.url
    named = model.name if reference.version is None else f"{model.name}:{reference.version}"
    raise NoSuchName(
        f"{named} does not run in {environment}.", hint=f"Deploy it: `merlin deploy {named}`."
    )


def _failure(response: httpx2.Response, model: str) -> Exception:
    refused = error_of(response)
    if response.status_code != 500:
        return refused
    return PredictionFailed(
        f"The model failed: {refused.message}", hint=f"See why with `merlin logs {model}`."
    )


def _answer(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise PredictionFailed("The model answered something other than JSON.") from error
