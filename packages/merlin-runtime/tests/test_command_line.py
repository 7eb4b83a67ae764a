"""Options, their defaults from Merlin's environment, threads, log lines."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from merlin_runtime import cli, log_lines
from merlin_runtime.cpu_threads import limit_numeric_threads, usable_cpus
from merlin_runtime.errors import UsageError
from merlin_runtime.settings import Defaults, model_and_version


def _run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "merlin_runtime", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={"CARAML_HTTP_PORT": "9123"},
        check=False,
    )


def test_help_has_examples_and_defaults_of_the_environment():
    text = _run("serve", "--help").stdout
    assert "examples:" in text
    assert "exit codes:" in text
    assert "now 9123" in text


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["serve"],
        ["serve", "--model-dir", "x", "--port", "70000"],
        ["serve", "--model-dir", "x", "--max-concurrency", "0"],
        ["serve", "--model-dir", "x", "--drain-seconds", "nan"],
        ["serve", "--model-dir", "x", "--model-type", "spark"],
    ],
)
def test_a_wrong_option_is_exit_code_2_without_traceback(arguments):
    run = _run(*arguments)
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
    assert "error:" in run.stderr


def test_the_environment_of_merlins_deployments_is_read():
    defaults = Defaults.read(
        {
            "CARAML_HTTP_PORT": "8081",
            "CARAML_MODEL_FULL_NAME": "iris-3",
            "MODEL_NAME": "old",
            "WORKERS": "6",
            "LOG_LEVEL": "shout",
            "MERLIN_DRAIN_DELAY": "2.5",
        },
        cpus=2,
    )
    assert (defaults.port, defaults.name, defaults.log_level) == (8081, "iris-3", "INFO")
    assert (defaults.max_concurrency, defaults.drain_delay_seconds) == (6, 2.5)
    assert Defaults.read({"MODEL_NAME": "old-1"}, cpus=16).name == "old-1"
    assert Defaults.read({}, cpus=16).max_concurrency == 4


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CARAML_HTTP_PORT", "http"),
        ("WORKERS", "0"),
        ("MERLIN_MAX_BODY_BYTES", "-1"),
        ("MERLIN_DRAIN_SECONDS", "nan"),
        ("CARAML_PROTOCOL", "HTTP_XML"),
        ("CARAML_GRPC_PORT", "many"),
        ("GRPC_OPTIONS", "[1]"),
    ],
)
def test_a_wrong_variable_is_named(variable, value, capsys):
    with pytest.raises(UsageError, match=variable):
        Defaults.read({variable: value}, cpus=1)
    assert cli.main(["serve"], {variable: value}) == 2
    assert variable in capsys.readouterr().err


def test_labels_come_from_the_environment_or_the_full_name():
    assert model_and_version({}, "my-model-12") == ("my-model", "12")
    assert model_and_version({}, "model") == ("model", "1")
    given = {"CARAML_MODEL_NAME": "a", "CARAML_MODEL_VERSION": "b"}
    assert model_and_version(given, "my-model-12") == ("a", "b")


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "10000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
    ],
)
def test_a_cpu_quota_bounds_the_threads(tmp_path, files, cpus):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert usable_cpus(tmp_path) == min(cpus, usable_cpus(tmp_path / "none"))


@pytest.mark.parametrize("text", ["max 100000", "", "0 0", "broken x"])
def test_no_quota_means_the_cpus_we_may_be_scheduled_on(tmp_path, text):
    (tmp_path / "cpu.max").write_text(text)
    assert usable_cpus(tmp_path) == usable_cpus(tmp_path / "none") >= 1


def test_the_users_number_of_threads_is_kept():
    environ = {"OMP_NUM_THREADS": "7"}
    limit_numeric_threads(environ, 2)
    assert (environ["OMP_NUM_THREADS"], environ["OPENBLAS_NUM_THREADS"]) == ("7", "2")


@pytest.fixture
def restored_logging():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before
    logging.captureWarnings(False)


@pytest.mark.usefixtures("restored_logging")
def test_log_lines_are_json_or_plain(capsys):
    log_lines.configure(level="INFO", form="json")
    try:
        int("boom")
    except ValueError:
        logging.getLogger("x").exception("went wrong", extra={"fields": {"request_id": "r"}})
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["message"], line["request_id"]) == ("error", "went wrong", "r")
    assert "boom" in line["exception"]
    log_lines.configure(level="WARNING", form="plain")
    logging.getLogger("x").warning("went\nwrong", extra={"fields": {"request_id": "r"}})
    logging.getLogger("x").info("unseen")
    assert capsys.readouterr().err.endswith("WARNING went request_id=r\nwrong\n")
