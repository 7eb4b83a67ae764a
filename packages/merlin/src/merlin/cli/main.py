"""The entry point: runs a command, and turns whatever happens into a sentence and an exit code."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from cyclopts import CycloptsError

from merlin.cli import exit_codes
from merlin.cli.app import make_app
from merlin.cli.errors import PackageMissing, UsageError
from merlin.errors import Kind, MerlinError


def main() -> None:
    """Run the command line of this process."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; nothing is raised."""
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read us has seen enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.BROKEN_PIPE
    return code


def _run(arguments: Sequence[str]) -> int:
    try:
        _call(list(arguments))
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted. What a server was asked to do goes on.\n")
        return exit_codes.INTERRUPTED
    except CycloptsError as error:
        hint = "See the options with --help."
        return _report(UsageError(_sentence(str(error)), hint=hint), arguments)
    except MerlinError as error:
        return _report(error, arguments)
    except ImportError as error:
        missing = PackageMissing(f"A package is missing: {error}.")
        missing.__cause__ = error
        return _report(missing, arguments)
    except Exception as error:  # noqa: BLE001 (nobody above could say more)
        hint = "This is a bug in Merlin; --verbose shows where."
        unexpected = MerlinError(f"Unexpected {type(error).__name__}: {error}", hint=hint)
        unexpected.__cause__ = error
        return _report(unexpected, arguments)
    return exit_codes.OK


def _call(arguments: list[str]) -> None:
    called = next(iter(arguments), "")
    called = "" if called.startswith("-") else called
    app = make_app(called)
    if called and called not in app:
        known = [name for name in app if not name.startswith("-")]
        close = get_close_matches(called, known, n=1)
        hint = f"Did you mean `merlin {close[0]}`?" if close else f"Commands: {', '.join(known)}."
        raise UsageError(f"There is no command {called!r}.", hint=hint)
    app(arguments, print_error=False, exit_on_error=False, result_action="return_value")


def _report(error: MerlinError, arguments: Sequence[str]) -> int:
    if "--verbose" in arguments:
        traceback.print_exception(error)
    if _wants_json(arguments):
        sys.stderr.write(f"{json.dumps(error.to_dict(), ensure_ascii=False, default=str)}\n")
    else:
        sys.stderr.write("".join(f"{line}\n" for line in _lines(error)))
    return exit_codes.BY_KIND.get(error.kind, exit_codes.BY_KIND[Kind.INTERNAL])


def _lines(error: MerlinError) -> Iterator[str]:
    yield f"error: {error.message}"
    for culprit in error.data.get("culprits", ()):
        last: Any = culprit.get("last_lines") or ()
        for line in last.splitlines() if isinstance(last, str) else last:
            yield f"  | {line}"
    if error.hint:
        yield f" hint: {error.hint}"


def _wants_json(arguments: Sequence[str]) -> bool:
    pairs = zip(arguments, [*arguments[1:], ""], strict=True)
    return any(one == "--output=json" or (one, two) == ("--output", "json") for one, two in pairs)


def _sentence(text: str) -> str:
    flat = " ".join(text.split())
    return flat if flat.endswith((".", "?", "!")) else f"{flat}."
