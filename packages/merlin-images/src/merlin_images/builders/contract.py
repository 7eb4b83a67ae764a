"""The contract of `merlin_images.builders.port.ImageBuilder` as tests, for any builder.

Subclass `BuilderContract` in a test module and give it the fixtures below. Needs pytest.

``builder``          a builder with caches of its own
``another_builder``  another one, which shares nothing with it but the registry
``registry``         the registry both push to, empty
``repository``       a repository in it, without a tag
``base``             a base image with Python 3.11

A builder that reads the model from another process overrides ``store`` as well.
"""

# ruff: noqa: S101 -- these are tests, published with what they test

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from merlin.artifacts.memory import MemoryStore
from merlin.artifacts.store import ArtifactStore
from merlin.errors import Kind, MerlinError
from merlin.progress import Silent
from merlin_images.builders.port import BuildRequest, ImageBuilder, ModelSource
from merlin_images.image.held_lock import read_held_lock
from merlin_images.image.stored import read_image
from merlin_images.image.validate import validate
from merlin_images.registry.errors import ImageNotFound
from merlin_images.registry.port import ImageRegistry, ListsTags
from merlin_images.registry.reference import Reference

CONDA = """\
dependencies:
  - python=3.11
  - pip:
      - cloudpickle==3.1.1
"""


class Trap:
    """Says that somebody unpickled it."""

    def __init__(self, sign: Path) -> None:
        self._sign = sign

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self._sign,)


class Steps:
    """Progress that checks its own protocol."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.running: set[str] = set()
        self.finished: list[str] = []

    def start(self, step: str, *, total: int | None = None) -> None:
        del total
        with self._lock:
            assert step not in self.running, f"{step!r} was started twice"
            self.running.add(step)

    def advance(self, step: str, amount: int) -> None:
        assert step in self.running
        assert amount >= 0

    def finish(self, step: str, detail: str = "", *, failed: bool = False) -> None:
        del detail, failed
        with self._lock:
            self.running.remove(step)
            self.finished.append(step)


class BuilderContract:
    """Every test starts with an empty registry."""

    @pytest.fixture
    def store(self) -> ArtifactStore:
        return MemoryStore()

    @pytest.fixture
    def request_(
        self, store: ArtifactStore, repository: Reference, base: str, tmp_path: Path
    ) -> BuildRequest:
        """A Python function that would leave a sign if it were loaded."""
        return self.request_for(
            store,
            repository,
            base,
            {
                "MLmodel": b"flavors:\n  python_function:\n    python_model: python_model.pkl\n",
                "conda.yaml": CONDA.encode(),
                "python_model.pkl": pickle.dumps(Trap(tmp_path / "executed")),
                "code/setup.py": f"open({str(tmp_path / 'executed')!r}, 'w')".encode(),
                "artifacts/with space": b"data",
            },
        )

    @staticmethod
    def request_for(
        store: ArtifactStore, repository: Reference, base: str, files: Mapping[str, bytes]
    ) -> BuildRequest:
        for path, content in files.items():
            store.write(f"7/model/{path}", [content])
        return BuildRequest(
            model=ModelSource(store, "7/model"),
            target=replace(repository, tag="7"),
            model_type="pyfunc",
            model_name="fraud",
            version="7",
            python="3.11",
            created=datetime(2026, 1, 1, tzinfo=UTC),
            base=base,
        )

    @staticmethod
    def tags(registry: ImageRegistry, repository: Reference) -> list[str]:
        assert isinstance(registry, ListsTags)
        with suppress(ImageNotFound):
            return list(registry.tags(repository))
        return []

    def test_nothing_is_found_before_it_is_built(
        self, builder: ImageBuilder, request_: BuildRequest
    ) -> None:
        assert builder.find(request_) is None

    def test_what_is_built_is_found_and_valid(
        self, builder: ImageBuilder, registry: ImageRegistry, request_: BuildRequest
    ) -> None:
        built = builder.build(request_, Silent())
        assert not built.reused
        assert builder.find(request_) == built.reference
        found = validate(registry, built.reference, Silent())
        assert found.digest == built.reference.digest
        assert found.layers == len(built.layers)
        assert len({(each.title, each.platform) for each in built.layers}) == len(built.layers)
        assert {layer.kind for layer in built.layers} == {"base", "dependency", "runtime", "model"}

    def test_the_requested_tag_names_the_image(
        self, builder: ImageBuilder, registry: ImageRegistry, request_: BuildRequest
    ) -> None:
        built = builder.build(request_, Silent())
        named = registry.resolve(request_.target)
        assert named is not None
        assert named.digest == built.reference.digest

    def test_building_again_reuses_the_image(
        self, builder: ImageBuilder, request_: BuildRequest
    ) -> None:
        first = builder.build(request_, Silent())
        again = builder.build(request_, Silent())
        assert again.reused
        assert again.reference == first.reference
        assert (again.lock_key, again.lock_text, again.python) == (
            first.lock_key,
            first.lock_text,
            first.python,
        )
        assert all(layer.action == "present" and not layer.made for layer in again.layers)

    def test_another_builder_makes_the_same_image(
        self, builder: ImageBuilder, another_builder: ImageBuilder, request_: BuildRequest
    ) -> None:
        elsewhere = replace(request_, target=Reference(request_.target.host, "another/place"))
        one = builder.build(request_, Silent())
        two = another_builder.build(elsewhere, Silent())
        assert not two.reused
        assert one.reference.digest == two.reference.digest

    def test_another_builder_reuses_what_is_in_the_registry(
        self, builder: ImageBuilder, another_builder: ImageBuilder, request_: BuildRequest
    ) -> None:
        first = builder.build(request_, Silent())
        again = another_builder.build(request_, Silent())
        assert again.reused
        assert (again.reference, again.lock_text) == (first.reference, first.lock_text)
        assert [layer.digest for layer in again.layers] == [layer.digest for layer in first.layers]

    def test_a_moved_tag_is_put_back(
        self, builder: ImageBuilder, registry: ImageRegistry, request_: BuildRequest
    ) -> None:
        first = builder.build(request_, Silent())
        other = builder.build(replace(request_, model_name="other"), Silent())
        assert other.reference.digest != first.reference.digest
        assert builder.build(request_, Silent()).reused
        named = registry.resolve(request_.target)
        assert named is not None
        assert named.digest == first.reference.digest

    def test_a_changed_model_shares_all_other_layers(
        self, builder: ImageBuilder, store: ArtifactStore, request_: BuildRequest
    ) -> None:
        before = builder.build(request_, Silent())
        store.write("7/model/code/user.py", [b"changed = True"])
        after = builder.build(request_, Silent())
        assert after.reference.digest != before.reference.digest
        changed = [
            new.kind
            for old, new in zip(before.layers, after.layers, strict=True)
            if old.digest != new.digest
        ]
        assert changed == ["model"]
        assert {layer.action for layer in after.layers if layer.kind != "model"} == {"present"}

    def test_the_image_holds_its_lock_and_says_how_to_run(
        self, builder: ImageBuilder, registry: ImageRegistry, request_: BuildRequest
    ) -> None:
        built = builder.build(request_, Silent())
        image = read_image(registry, built.reference)
        assert read_held_lock(registry, image) == built.lock_text
        assert "cloudpickle" in built.lock_text
        run = image.config["config"]
        assert run["User"].partition(":")[0] == "65532"
        assert run["WorkingDir"] == "/opt/model"
        assert run["Entrypoint"][:3] == ["/opt/venv/bin/python", "-m", "merlin_runtime"]
        assert "CARAML_MODEL_FULL_NAME=fraud-7" in run["Env"]
        assert image.config["created"] == "2026-01-01T00:00:00Z"

    def test_nothing_of_the_model_is_executed(
        self, builder: ImageBuilder, request_: BuildRequest, tmp_path: Path
    ) -> None:
        builder.build(request_, Silent())
        assert not (tmp_path / "executed").exists()

    def test_equal_builds_at_once_give_one_image(
        self, builder: ImageBuilder, request_: BuildRequest
    ) -> None:
        with ThreadPoolExecutor(4) as threads:
            built = list(threads.map(lambda _: builder.build(request_, Silent()), range(4)))
        assert len({one.reference for one in built}) == 1

    def test_every_step_is_finished(self, builder: ImageBuilder, request_: BuildRequest) -> None:
        steps = Steps()
        builder.build(request_, steps)
        assert not steps.running
        assert steps.finished

    def test_the_report_is_json(self, builder: ImageBuilder, request_: BuildRequest) -> None:
        built = builder.build(request_, Silent())
        told = json.loads(json.dumps(built.to_dict()))
        assert told["digest"] == built.reference.digest
        assert told["image"] == str(built.reference)

    @pytest.mark.parametrize(
        "files",
        [
            pytest.param({"python_model.pkl": b"x"}, id="no environment file"),
            pytest.param({"conda.yaml": b"dependencies: [python=3.11"}, id="broken YAML"),
            pytest.param(
                {"requirements.txt": b"no-such-package-of-merlin==1.0"}, id="unknown package"
            ),
            pytest.param({"requirements.txt": b"-e ."}, id="editable"),
            pytest.param({"requirements.txt": b"", "a\nb": b""}, id="newline in a name"),
            pytest.param({"requirements.txt": b"", ".wh.model": b""}, id="white-out"),
            pytest.param({}, id="no model"),
        ],
    )
    def test_a_failed_build_says_why_and_leaves_no_tag(  # noqa: PLR0917 -- fixtures
        self,
        builder: ImageBuilder,
        store: ArtifactStore,
        registry: ImageRegistry,
        repository: Reference,
        base: str,
        files: Mapping[str, bytes],
    ) -> None:
        request = self.request_for(store, repository, base, files)
        steps = Steps()
        with pytest.raises(MerlinError) as caught:
            builder.build(request, steps)
        assert caught.value.kind is Kind.INVALID
        assert caught.value.hint
        assert not steps.running
        assert self.tags(registry, repository) == []
