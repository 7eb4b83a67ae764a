"""The command line. Only the standard library is imported here: the port is bound, and numeric
libraries are told their number of threads, before anything heavy is loaded."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from types import FrameType
from typing import Any, Dict, MutableMapping, NoReturn, Optional, Sequence, Union

from merlin_runtime import __version__, exit_codes, log_lines, parent_death
from merlin_runtime.availability import missing_for_grpc, missing_for_publisher
from merlin_runtime.cpu_threads import limit_numeric_threads, usable_cpus
from merlin_runtime.errors import AddressUnavailable, ModelLoadFailed, UsageError
from merlin_runtime.settings import Defaults, Settings, model_and_version
from merlin_runtime.startup_phases import StartupPhases

_DESCRIPTION = """\
Serve one model over HTTP: POST /v1/models/NAME:predict, and over gRPC where asked to.

The port answers liveness (/healthz) at once, and readiness (/readyz) once the model is loaded.
"""

_EXAMPLES = """\
examples:
  Serve a scikit-learn model (a folder with model.joblib) on port 8080:
    python -m merlin_runtime serve --model-dir ./model --name iris-1 --port 8080
  Ask it:
    curl -d '{"instances": [[5.1, 3.5, 1.4, 0.2]]}' localhost:8080/v1/models/iris-1:predict
  Only see whether the model loads in this environment:
    python -m merlin_runtime serve --model-dir ./model --dry-run
  Serve on a socket the starting process (4711) holds open, and end when that process ends:
    python -m merlin_runtime serve --model-dir ./model --fd 3 --exit-with-parent 4711

exit codes: 0 stopped, or dry run passed; 2 wrong option; 3 the model cannot be loaded;
4 the address cannot be listened on. With 3 and 4 the last line of standard output is JSON.
"""

_LOG = logging.getLogger("merlin_runtime")


def main(argv: Sequence[str], environ: MutableMapping[str, str]) -> int:
    """Run one command and return the exit code (`exit_codes`)."""
    cpus = usable_cpus()
    try:
        defaults = Defaults.read(environ, cpus=cpus)
    except UsageError as error:
        return _wrong_usage(error)
    parser = _parser(defaults)
    options = parser.parse_args(argv)
    if options.batch and not options.dry_run:
        parser.error("--batch is for --dry-run: models of prediction jobs are not served")
    if options.exit_with_parent is not None:
        parent_death.exit_with(options.exit_with_parent or os.getppid())
    signal.signal(signal.SIGTERM, _stop_early)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    log_lines.configure(level=defaults.log_level, form=defaults.log_format)
    limit_numeric_threads(environ, cpus)
    # One process serves. prometheus_client's files for several processes would only pile up, and
    # importing it fails where the folder named here does not exist.
    environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    settings = _settings(options, defaults, environ)
    if settings.grpc_port is not None and (missing := missing_for_grpc(settings.protocol)):
        return _wrong_usage(f"gRPC needs {missing}, which the model's environment lacks.")
    if settings.publisher is not None and (missing := missing_for_publisher()):
        return _wrong_usage(
            f"PUBLISHER_ENABLED needs {missing}, which the model's environment lacks."
        )
    if options.dry_run:
        return _dry_run(settings, batch=options.batch)
    return _serve(settings, options.workers)


def _dry_run(settings: Settings, *, batch: bool) -> int:
    from merlin_runtime.models.loading import check_batch_model, load_model  # noqa: PLC0415

    phases, kind = StartupPhases(), "pyfunc_v2"
    try:
        if batch:
            check_batch_model(settings.model_dir, phases)
        else:
            kind = load_model(
                settings.model_dir, settings.model_type, phases, protocol=settings.protocol
            ).kind
    except ModelLoadFailed as failure:
        return _load_failed(failure)
    _LOG.info("dry run success", extra={"fields": {"type": kind, "seconds": phases.seconds}})
    return exit_codes.STOPPED


def _serve(settings: Settings, workers: int) -> int:
    if workers > 1:
        _LOG.warning(
            "One process serves, not %d workers; its threads run up to %d predictions at once.",
            workers,
            settings.max_concurrency,
        )
    phases = StartupPhases()
    try:
        listener = _listen(settings)
    except OSError as error:
        where = (
            f"socket {settings.listen_fd}"
            if settings.listen_fd is not None
            else (f"{settings.host}:{settings.port}")
        )
        return _address_unavailable(f"Cannot listen on {where}: {error.strerror or error}.")
    host, port = listener.getsockname()[:2]
    _LOG.info("listening", extra={"fields": {"event": "listening", "host": host, "port": port}})

    with phases.phase("server"):
        from merlin_runtime.serving.server import serve  # noqa: PLC0415
    try:
        serve(settings, listener, phases)
    except ModelLoadFailed as failure:
        return _load_failed(failure)
    except AddressUnavailable as error:
        return _address_unavailable(str(error))
    except UsageError as error:
        return _wrong_usage(error)
    return exit_codes.STOPPED


def _wrong_usage(reason: Union[UsageError, str]) -> int:
    print(f"merlin_runtime: {reason}", file=sys.stderr)  # noqa: T201
    return exit_codes.USAGE


def _address_unavailable(sentence: str) -> int:
    _last_line({"event": "listen_failed", "error": sentence, "code": "address_unavailable"})
    return exit_codes.ADDRESS_UNAVAILABLE


def _listen(settings: Settings) -> socket.socket:
    if settings.listen_fd is not None:
        inherited = socket.socket(fileno=settings.listen_fd)
        if not inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise OSError("the inherited socket is not a listening one")
        return inherited
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def _load_failed(failure: ModelLoadFailed) -> int:
    _LOG.error("The model cannot be loaded.", exc_info=failure.__cause__)
    _last_line({"event": "load_failed", **failure.to_dict()})
    return exit_codes.LOAD_FAILED


def _last_line(event: Dict[str, Any]) -> None:
    sys.stderr.flush()
    print(json.dumps(event), flush=True)  # noqa: T201


def _stop_early(signum: int, frame: Optional[FrameType]) -> NoReturn:
    # Before the server runs there is nothing to drain; it then takes this signal over.
    del signum, frame
    raise SystemExit(exit_codes.STOPPED)


def _settings(
    options: argparse.Namespace, defaults: Defaults, environ: MutableMapping[str, str]
) -> Settings:
    model, version = model_and_version(environ, options.name)
    return Settings(
        model_dir=options.model_dir.absolute(),
        name=options.name,
        model=model,
        version=version,
        project=environ.get("CARAML_PROJECT", ""),
        host=options.host,
        port=options.port,
        listen_fd=options.fd,
        protocol=defaults.protocol,
        grpc_port=options.grpc_port,
        grpc_options=defaults.grpc_options,
        model_type=options.model_type,
        max_concurrency=options.max_concurrency,
        max_queue=options.max_queue,
        max_body_bytes=options.max_body_bytes,
        drain_delay_seconds=options.drain_delay,
        drain_seconds=options.drain_seconds,
        access_log=options.access_log,
        access_log_ratio=defaults.access_log_ratio,
        publisher=defaults.publisher,
        push=defaults.push,
        tracing=defaults.tracing,
    )


def _parser(defaults: Defaults) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="merlin_runtime", description="Merlin's model server.")
    parser.add_argument("--version", action="version", version=__version__)
    serve = parser.add_subparsers(required=True, metavar="serve").add_parser(
        "serve",
        help="serve one model over HTTP",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = serve.add_argument
    add("--model-dir", type=Path, required=True, metavar="DIR", help="the model's folder")
    add(
        "--name",
        default=defaults.name,
        help="name in the predict path (CARAML_MODEL_FULL_NAME, MODEL_NAME; now %(default)s)",
    )
    add(
        "--port",
        type=_port,
        default=defaults.port,
        metavar="N",
        help="port; 0 picks a free one and logs it (CARAML_HTTP_PORT; now %(default)s)",
    )
    add(
        "--grpc-port",
        type=_port,
        default=defaults.grpc_port,
        metavar="N",
        help="serve gRPC there too: the Open Inference Protocol, or UPI where CARAML_PROTOCOL is "
        "UPI_V1 (CARAML_GRPC_PORT; now %(default)s); 0 picks a free one",
    )
    add("--host", default="0.0.0.0", help="address to listen on (%(default)s)")  # noqa: S104
    add("--fd", type=_count, metavar="N", help="serve on this inherited listening socket instead")
    add(
        "--model-type",
        choices=("lightgbm", "onnx", "pyfunc", "sklearn", "xgboost"),
        help="what the folder holds; default: seen from its files",
    )
    add(
        "--workers",
        type=_positive,
        default=defaults.workers,
        metavar="N",
        help="accepted from existing deployments (WORKERS); raises --max-concurrency's default",
    )
    add(
        "--max-concurrency",
        type=_positive,
        default=defaults.max_concurrency,
        metavar="N",
        help="predictions at once (MERLIN_MAX_CONCURRENCY; now %(default)s: CPUs, at most 4)",
    )
    add(
        "--max-queue",
        type=_count,
        default=defaults.max_queue,
        metavar="N",
        help="requests waiting before 429 is answered (MERLIN_MAX_QUEUE; now %(default)s)",
    )
    add(
        "--max-body-bytes",
        type=_positive,
        default=defaults.max_body_bytes,
        metavar="N",
        help="largest request body (MERLIN_MAX_BODY_BYTES; now %(default)s)",
    )
    add(
        "--drain-delay",
        type=_seconds,
        default=defaults.drain_delay_seconds,
        metavar="SECONDS",
        help="on SIGTERM, go on accepting this long while not ready "
        "(MERLIN_DRAIN_DELAY; now %(default)s)",
    )
    add(
        "--drain-seconds",
        type=_seconds,
        default=defaults.drain_seconds,
        metavar="SECONDS",
        help="then finish requests in flight for at most this long "
        "(MERLIN_DRAIN_SECONDS; now %(default)s)",
    )
    add(
        "--exit-with-parent",
        nargs="?",
        type=_positive,
        const=0,
        metavar="PID",
        help="be killed when the starting process (PID, default: the parent) ends; Linux only",
    )
    add(
        "--access-log",
        action="store_true",
        default=defaults.access_log,
        help="log each prediction (ACCESS_LOG=1); with ACCESS_LOG_RATIO=0.1 all errors, but a "
        "tenth of the rest",
    )
    add("--dry-run", action="store_true", help="load the model, then exit")
    add("--batch", action="store_true", help="with --dry-run: it is a model of prediction jobs")
    return parser


def _count(text: str) -> int:
    return _at_least(0, text)


def _positive(text: str) -> int:
    return _at_least(1, text)


def _port(text: str) -> int:
    number = _at_least(0, text)
    if number > 65535:
        raise argparse.ArgumentTypeError("is above 65535")
    return number


def _at_least(least: int, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < least:
        raise argparse.ArgumentTypeError(f"{text} is below {least}")
    return number


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0 <= number < 86400:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 86400")
    return number
