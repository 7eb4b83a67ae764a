"""The stages of a smoke test, each told in a line of JSON as it begins and ends.

Lines are ``{"event": "stage", "stage", "state": "started" | "passed" | "skipped", ...}``, with
``seconds`` and ``detail`` at the end. A stage that fails ends the test: the last line is then
``{"event": "stage", "stage", "state": "failed", "error", "code", ...}``, as of `ModelLoadFailed`.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Callable, Dict, Optional, Tuple

from merlin_runtime import exit_codes
from merlin_runtime.errors import ModelLoadFailed, ServingError
from merlin_runtime.models.loading import explain, load_model
from merlin_runtime.models.port import Model
from merlin_runtime.serving.codecs import PLAIN_JSON
from merlin_runtime.settings import UPI, Settings
from merlin_runtime.smoke.example import Example, logged_example
from merlin_runtime.smoke.packages import import_packages
from merlin_runtime.startup_phases import StartupPhases

Say = Callable[[Dict[str, Any]], None]
# What became of a stage, and what is told of it.
Outcome = Tuple[str, str]


class ExampleFailed(ModelLoadFailed):
    """The model is loaded and gives no answer to the example."""

    code = "example_failed"


def smoke_test(
    settings: Settings,
    request: Optional[bytes],
    say: Say,
    log: Callable[[BaseException], None],
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """Run all stages and return the exit code.

    ``request`` is a body to send instead of the logged example. What a stage raised is shown to
    ``log``, the cause of a failure among it.
    """
    loaded: Dict[str, Model] = {}

    def load() -> Outcome:
        loaded["model"] = load_model(
            settings.model_dir, settings.model_type, StartupPhases(), protocol=settings.protocol
        )
        return "passed", loaded["model"].kind

    def predict() -> Outcome:
        return _predict(settings, loaded["model"], request)

    for stage, work, code in (
        ("import", _import, exit_codes.LOAD_FAILED),
        ("load", load, exit_codes.LOAD_FAILED),
        ("predict", predict, exit_codes.EXAMPLE_FAILED),
    ):
        say({"event": "stage", "stage": stage, "state": "started"})
        started = clock()
        try:
            state, detail = work()
        except ModelLoadFailed as failure:
            log(failure.__cause__ or failure)
            say({"event": "stage", "stage": stage, "state": "failed", **failure.to_dict()})
            return code
        seconds = round(clock() - started, 4)
        told = {"state": state, "seconds": seconds, "detail": detail}
        say({"event": "stage", "stage": stage, **told})
    return exit_codes.STOPPED


def _import() -> Outcome:
    count, refused = import_packages()
    return "passed", f"{count} packages" + (f", not {', '.join(refused)}" if refused else "")


def _predict(settings: Settings, model: Model, request: Optional[bytes]) -> Outcome:
    if settings.protocol == UPI:
        return "skipped", "examples are JSON, and this model is asked over UPI"
    try:
        if request is not None:
            example: Optional[Example] = Example("the request given", PLAIN_JSON.decode(request))
        else:
            example = logged_example(settings.model_dir, model.kind)
        if example is None:
            return "skipped", "no example was logged with the model"
        answer = model.predict(example.request, {})
        if model.is_async:
            answer = asyncio.run(_awaited(answer))
        return "passed", f"{example.file}, answered in {len(PLAIN_JSON.encode(answer))} bytes"
    except ServingError as error:
        raise ExampleFailed(f"The example gets no prediction: {error.message}") from error
    except BaseException as error:  # user code may also call sys.exit
        failure = explain(error, doing="Predicting the example")
        raise ExampleFailed(
            failure.message,
            hint=failure.hint,
            missing_module=failure.missing_module,
            where=failure.where,
        ) from error


async def _awaited(answer: Any) -> Any:
    return await answer
