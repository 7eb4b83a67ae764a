"""`make demo`: the whole way of a model, on a real data set, each step with its time.

Starts one `merlin up` process on a free port, with its data in `.merlin/demo`, and removes all of
it again except the caches, which make a second run quick. `--svg FILE` keeps a picture of what it
printed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import joblib
import numpy as np
import sklearn
from rich.console import Console
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

import merlin
from merlin.endpoint import Status
from merlin.model import ModelType, PyFuncModel

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / ".merlin" / "demo"
ENVIRONMENT = {
    "dependencies": [
        "python",
        {"pip": [f"scikit-learn=={sklearn.__version__}", f"numpy=={np.__version__}"]},
    ]
}


class TumourClassifier(PyFuncModel):
    """Preprocessing in user code: takes named measurements, answers with words."""

    def initialize(self, artifacts: dict[str, str]) -> None:
        self.model = joblib.load(artifacts["model"])
        self.features = json.loads(Path(artifacts["features"]).read_text())

    def infer(self, request: dict[str, Any], **_: Any) -> dict[str, Any]:
        rows = [[patient[name] for name in self.features] for patient in request["patients"]]
        return {"diagnoses": [["malignant", "benign"][k] for k in self.model.predict(rows)]}


class Story:
    """Prints each step with its time, and a summary line under it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._number = 0
        self._began = time.perf_counter()

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        self._number += 1
        began = time.perf_counter()
        self._console.print(f"\n[bold cyan]{self._number}[/]  [bold]{title}[/]")
        yield
        self._console.print(f"   [green]done in {time.perf_counter() - began:.2f} s[/]")

    def tell(self, text: str) -> None:
        self._console.print(f"   {text.replace(f'{ROOT}/', '')}", highlight=False)

    def end(self) -> None:
        total = time.perf_counter() - self._began
        self._console.print(f"\n[bold green]The demo took {total:.1f} s.[/]\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--svg", type=Path, help="keep a picture of the output")
    arguments = parser.parse_args()
    console = Console(record=bool(arguments.svg), width=96 if arguments.svg else None)
    story = Story(console)
    _forget_last_run()
    with tempfile.TemporaryDirectory() as folder:
        _tell(story, Path(folder))
    if arguments.svg:
        picture = console.export_svg(title="make demo")
        # The picture must not fetch fonts from anywhere.
        arguments.svg.write_text(re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL))


def _tell(story: Story, folder: Path) -> None:
    with story.step("start `merlin up`: one process, SQLite and a folder"):
        server, address = _start_server(story)
    try:
        with story.step("train two models on the breast cancer data set of scikit-learn"):
            plain, custom, test_rows = _train(story, folder)
        merlin.set_url(address)
        merlin.create_project("demo")
        merlin.set_project("demo")

        with story.step("log them as versions, with parameters, metrics and tags"):
            forest = _log_plain(plain, folder / "plain", accuracy=plain["accuracy"])
            words = _log_custom(custom)
            for version in (forest, words):
                story.tell(
                    f"{version.model.name} version {version.id}, run {version.mlflow_run_id}"
                )

        for version in (forest, words):
            with story.step(f"build the image of {version.model.name} version {version.id}"):
                _build(story, version)

        with story.step("deploy both, serve traffic, compare answers with model.predict"):
            _deploy_and_compare(story, forest, plain, test_rows)
            _deploy_and_compare_words(story, words, custom, test_rows)

        with story.step("log, build and roll out a second version while a client keeps calling"):
            _roll_out(story, plain, folder, test_rows)

        with story.step("tear everything down"):
            _tear_down(story, server)
    finally:
        if server.poll() is None:
            server.kill()
    story.end()


def _forget_last_run() -> None:
    for entry in DATA.glob("*"):
        if entry.name == "cache":
            continue
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    DATA.mkdir(parents=True, exist_ok=True)
    os.environ["MERLIN_CONFIG"] = str(DATA / "cli.toml")


def _start_server(story: Story) -> tuple[subprocess.Popen[str], str]:
    command = [str(Path(sys.executable).parent / "merlin"), "up"]
    server = subprocess.Popen(
        [*command, "--port", "0", "--data-dir", str(DATA)], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    lines = [server.stdout.readline().rstrip() for _ in range(4)]
    for line in lines:
        story.tell(line)
    if server.poll() is not None:
        sys.exit("merlin up did not start")
    address = next(word for word in " ".join(lines).split() if word.startswith("http://"))
    return server, address.rstrip("/")


def _train(story: Story, folder: Path) -> tuple[dict[str, Any], dict[str, Any], Any]:
    data = load_breast_cancer()
    train, test, train_labels, labels = train_test_split(data.data, data.target, random_state=7)
    forest = RandomForestClassifier(n_estimators=50, random_state=7).fit(train, train_labels)
    regression = LogisticRegression(max_iter=10_000).fit(train, train_labels)
    story.tell(
        f"random forest: accuracy {forest.score(test, labels):.3f}, "
        f"logistic regression: {regression.score(test, labels):.3f}"
    )
    joblib.dump(regression, folder / "regression.joblib")
    (folder / "features.json").write_text(json.dumps(list(data.feature_names)))
    plain = {"model": forest, "accuracy": forest.score(test, labels)}
    plain |= {"train": train, "train_labels": train_labels, "test": test, "labels": labels}
    custom = {"model": regression, "features": list(data.feature_names), "folder": folder}
    return plain, custom, test


def _log_plain(plain: dict[str, Any], folder: Path, *, accuracy: float) -> Any:
    folder.mkdir(exist_ok=True)
    joblib.dump(plain["model"], folder / "model.joblib")
    merlin.set_model("tumours", ModelType.SKLEARN)
    with merlin.new_model_version(labels={"team": "demo"}) as version:
        version.log_param("n_estimators", plain["model"].n_estimators)
        version.log_metric("accuracy", accuracy)
        version.set_tag("data", "breast-cancer")
        version.log_model(str(folder))
    return version


def _log_custom(custom: dict[str, Any]) -> Any:
    merlin.set_model("tumour-words", ModelType.PYFUNC)
    folder = custom["folder"]
    with merlin.new_model_version() as version:
        version.log_param("max_iter", 10_000)
        version.set_tag("data", "breast-cancer")
        version.log_pyfunc_model(
            TumourClassifier(),
            conda_env=ENVIRONMENT,
            artifacts={
                "model": str(folder / "regression.joblib"),
                "features": str(folder / "features.json"),
            },
        )
    return version


def _build(story: Story, version: Any) -> None:
    report = merlin.build_image(version).report
    story.tell(report["image"].partition("@")[0])
    story.tell(f"digest {report['digest']}")
    for layer in report["layers"]:
        origin = "made" if layer["made"] else "reused"
        story.tell(
            f"{layer['kind']:<11} {layer['size'] / 1e6:7.2f} MB  {origin:<6} {layer['action']:<9}"
            f" {layer['title'][:44]}"
        )
    story.tell(f"built in {report['seconds']:.2f} s")


def _deploy_and_compare(story: Story, version: Any, plain: dict[str, Any], rows: Any) -> None:
    merlin.set_model("tumours", ModelType.SKLEARN)
    endpoint = merlin.serve_traffic({merlin.deploy(version): 100})
    answer = httpx2.post(endpoint.url, json={"instances": rows.tolist()}).raise_for_status().json()
    expected = plain["model"].predict(rows).tolist()
    if answer["predictions"] != expected:
        sys.exit("the endpoint's predictions differ from the training process's")
    story.tell(f"{endpoint.url}: {len(expected)} answers, all right")


def _deploy_and_compare_words(
    story: Story, version: Any, custom: dict[str, Any], rows: Any
) -> None:
    merlin.set_model("tumour-words", ModelType.PYFUNC)
    endpoint = merlin.serve_traffic({merlin.deploy(version): 100})
    patients = [dict(zip(custom["features"], row, strict=True)) for row in rows.tolist()]
    answer = httpx2.post(endpoint.url, json={"patients": patients}).raise_for_status().json()
    expected = [["malignant", "benign"][k] for k in custom["model"].predict(rows)]
    if answer["diagnoses"] != expected:
        sys.exit("the endpoint's predictions differ from the training process's")
    story.tell(f"{endpoint.url}: {len(expected)} answers, all right")


def _roll_out(story: Story, plain: dict[str, Any], folder: Path, rows: Any) -> None:
    better = RandomForestClassifier(n_estimators=80, random_state=8)
    better.fit(plain["train"], plain["train_labels"])
    second = {**plain, "model": better, "accuracy": better.score(plain["test"], plain["labels"])}
    merlin.set_model("tumours", ModelType.SKLEARN)
    address = merlin.list_model_endpoints()[0].url
    with _client_that_keeps_calling(address, rows) as calls:
        version = _log_plain(second, folder / "second", accuracy=second["accuracy"])
        _build(story, version)
        endpoint = merlin.serve_traffic({merlin.deploy(version): 100})
        answer = httpx2.post(endpoint.url, json={"instances": rows.tolist()}).json()
        if answer["predictions"] != better.predict(rows).tolist():
            sys.exit("the second version does not answer at the stable address")
        # The same version again, in place: a new revision takes over from the running one.
        merlin.deploy(version)
    story.tell(f"{calls['answered']} calls meanwhile, {calls['failed']} failed")
    if calls["failed"]:
        sys.exit(f"a call failed during the roll-out: {calls['error']}")


@contextmanager
def _client_that_keeps_calling(address: str, rows: Any) -> Iterator[dict[str, Any]]:
    calls: dict[str, Any] = {"answered": 0, "failed": 0, "error": ""}
    stop = threading.Event()

    def call() -> None:
        with httpx2.Client(timeout=30) as client:
            while not stop.is_set():
                try:
                    client.post(address, json={"instances": rows[:5].tolist()}).raise_for_status()
                    calls["answered"] += 1
                except httpx2.HTTPError as error:
                    calls["failed"] += 1
                    calls["error"] = str(error)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        yield calls
    finally:
        stop.set()
        caller.join()


def _tear_down(story: Story, server: subprocess.Popen[str]) -> None:
    for name, kind in (("tumours", ModelType.SKLEARN), ("tumour-words", ModelType.PYFUNC)):
        merlin.set_model(name, kind)
        merlin.stop_serving_traffic()
        for version in merlin.active_model().list_version():
            for endpoint in version.list_endpoint():
                if endpoint.status != Status.TERMINATED:
                    merlin.undeploy(version)
    server.send_signal(signal.SIGTERM)
    server.wait(timeout=30)
    left = subprocess.run(
        ["pgrep", "--full", str(DATA)], check=False, capture_output=True, text=True
    ).stdout.split()
    if left:
        sys.exit(f"processes were left behind: {' '.join(left)}")
    story.tell("nothing is left running")


if __name__ == "__main__":
    main()
