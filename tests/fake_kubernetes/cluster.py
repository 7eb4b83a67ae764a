"""Everything together: what a test uses."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from lightkube import Client, KubeConfig

from tests.fake_kubernetes.access import EVERYTHING, Access, Rule
from tests.fake_kubernetes.api import Api, Options
from tests.fake_kubernetes.faults import Faults
from tests.fake_kubernetes.garbage import GarbageCollector
from tests.fake_kubernetes.jobs import JobController
from tests.fake_kubernetes.kubelet import Kubelet
from tests.fake_kubernetes.lists import Lists
from tests.fake_kubernetes.resources import BUILT_IN, NAMESPACES, ResourceType, Target
from tests.fake_kubernetes.server import Server
from tests.fake_kubernetes.storage import Object, Storage

ADMIN = "admin-token"
# A loop of controllers that undo one another must not hang a test.
MOST_ROUNDS = 1000


class FakeCluster:
    """A cluster: ``with FakeCluster() as cluster: client = cluster.client()``.

    ``strict`` refuses unknown fields though the caller did not ask for it, so that no test passes
    with a misspelt field. ``folder`` is where the kubelet makes volumes for containers that really
    run. ``seed`` decides generated names and uids.
    """

    def __init__(
        self,
        *,
        custom: Sequence[ResourceType] = (),
        strict: bool = True,
        folder: Path | None = None,
        seed: int = 0,
        back_off_seconds: float = 10,
    ) -> None:
        self._now = datetime(2026, 1, 1, tzinfo=UTC)
        self.storage = Storage()
        self.api = Api(self.storage, self.now, random.Random(seed))
        self.lists = Lists(self.storage)
        self.access = Access()
        self.faults = Faults()
        self.kubelet = Kubelet(self.api, folder)
        self.jobs = JobController(self.api, back_off_seconds=back_off_seconds)
        self._garbage = GarbageCollector(self.api)
        self._server = Server(
            self.api,
            lists=self.lists,
            access=self.access,
            faults=self.faults,
            resources=[*BUILT_IN, *custom],
            read_log=self.kubelet.read_log,
            strict=strict,
        )
        self.access.grant(ADMIN, "admin", EVERYTHING)
        self.create_namespace("default")

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop()

    @property
    def url(self) -> str:
        return self._server.url

    def now(self) -> datetime:
        return self._now

    def create_namespace(self, name: str) -> None:
        body = f'{{"metadata": {{"name": "{name}"}}}}'
        self.api.create(Target(NAMESPACES), body, Options("fake"))

    def token(self, token: str, rules: Sequence[Rule], user: str = "") -> str:
        """Let a new token do what the rules allow."""
        self.access.grant(token, user or f"system:serviceaccount:default:{token}", rules)
        return token

    def kubeconfig(self, *, token: str = ADMIN, namespace: str = "default") -> Object:
        """The content of a kubeconfig file for a token."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "fake", "user": {"token": token}}],
            "contexts": [
                {
                    "name": "fake",
                    "context": {"cluster": "fake", "user": "fake", "namespace": namespace},
                }
            ],
        }

    def write_kubeconfig(self, path: Path, *, token: str = ADMIN) -> Path:
        path.write_text(yaml.safe_dump(self.kubeconfig(token=token)))
        path.chmod(0o600)
        return path

    def client(self, *, token: str = ADMIN, **options: Any) -> Client:
        """A lightkube client; close it, or use it as a block."""
        config = KubeConfig.from_dict(self.kubeconfig(token=token))
        return Client(config, trust_env=False, **options)

    def restart(self) -> None:
        """Restart the API server: connections end, the data stays, the history is lost."""
        self._server.cut()
        self.compact()

    def compact(self) -> None:
        """Lose the history: older versions and page tokens answer 410."""
        self.lists.forget()
        self.storage.compact()

    def cut_connections(self) -> None:
        self._server.cut()

    def step(self) -> bool:
        """Let every controller act once; say whether any wrote anything."""
        before = self.storage.writes
        self.kubelet.step()
        self.jobs.step()
        self._garbage.step()
        return self.storage.writes != before

    def settle(self) -> None:
        """Step until nothing changes at the present time."""
        for _ in range(MOST_ROUNDS):
            if not self.step():
                return
        raise AssertionError("the controllers do not come to rest")

    def advance(self, seconds: float) -> None:
        """Let time pass, then settle."""
        self._now += timedelta(seconds=seconds)
        self.settle()

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Let the controllers act by themselves, at every write, while the block runs.

        What they raise is raised at its end. Time still stands still.
        """
        over = threading.Event()
        errors: list[BaseException] = []

        def act() -> None:
            try:
                while not over.is_set():
                    if self.step():
                        continue
                    with self.storage.changed:
                        self.storage.changed.wait(0.05)
            except BaseException as error:  # noqa: BLE001 - raised by whoever waits for the thread
                errors.append(error)

        thread = threading.Thread(target=act, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            with self.storage.changed:
                self.storage.changed.notify_all()
            thread.join()
        if errors:
            raise errors[0]
