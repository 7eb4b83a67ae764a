"""The form at ``/docs`` in a real browser, with names that try to be more than names."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import joblib
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

HOSTILE = "\"></script><script>alert(1)</script>'><img src=x onerror=alert(1)>"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--remote-debugging-pipe"
)
FILL_AND_SEND = """
new Promise((done) => {
  const field = document.querySelectorAll("input[data-name]")[0];
  field.value = "9.5";
  field.dispatchEvent(new Event("input"));
  document.getElementById("form").requestSubmit();
  const look = () => {
    const answer = document.getElementById("answer");
    if (answer.hidden) return setTimeout(look, 10);
    done(JSON.stringify({
      body: document.getElementById("body").value,
      answer: answer.textContent,
      status: document.getElementById("status").textContent,
      style: getComputedStyle(document.querySelector(".fields")).display,
    }));
  };
  look();
})
"""


class Browser:
    """Speaks the DevTools protocol over the browser's pipes."""

    def __init__(self, profile):
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        command = (
            f"exec chromium {FLAGS} --user-data-dir={profile} 3<&{to_browser} 4>&{from_browser}"
        )
        self.process = subprocess.Popen(
            ["bash", "-c", command],
            pass_fds=[to_browser, from_browser],
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._received = b""
        self._number = 0
        self.events = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}

    _session = {}  # noqa: RUF012

    def call(self, method, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params, **self._session}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda message: message.get("id") == self._number)
        assert "result" in answer, answer
        return answer["result"]

    def open(self, url):
        self.call("Page.enable")
        self.call("Page.navigate", url=url)
        self._until(lambda message: message.get("method") == "Page.loadEventFired")

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True)
        return json.loads(result["result"]["value"])

    def _until(self, wanted):
        while True:
            while b"\0" not in self._received:
                piece = os.read(self._read, 2**16)
                assert piece, "the browser ended"
                self._received += piece
            text, _, self._received = self._received.partition(b"\0")
            message = json.loads(text)
            self.events.append(message.get("method"))
            if wanted(message):
                return message

    def close(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        os.close(self._read)
        os.close(self._write)


@pytest.fixture
def browser(tmp_path):
    opened = Browser(tmp_path / "profile")
    yield opened
    opened.close()


@pytest.mark.parts("chromium")
def test_the_form_predicts_and_runs_nothing_else(browser, start_server, tmp_path):
    names = ["width", HOSTILE]
    frame = pd.DataFrame([[0.0, 1.0], [9.0, 0.0]], columns=names)
    (tmp_path / "model").mkdir()
    joblib.dump(LogisticRegression().fit(frame, [0, 1]), tmp_path / "model" / "model.joblib")
    server = start_server(tmp_path / "model").wait_ready()
    browser.open(f"http://127.0.0.1:{server.port}/docs")
    seen = browser.evaluate(FILL_AND_SEND)
    assert json.loads(seen["body"]) == {"instances": [{"width": 9.5, HOSTILE: 0}]}
    assert json.loads(seen["answer"]) == {"predictions": [1]}
    assert seen["status"].startswith("200 in ")
    assert seen["style"] == "grid"
    assert "Page.javascriptDialogOpening" not in browser.events
