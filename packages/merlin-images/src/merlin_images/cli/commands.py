"""``merlin image build``, ``inspect`` and ``validate``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from merlin.artifacts import open_store
from merlin.artifacts.local import LocalStore
from merlin.artifacts.store import ArtifactStore
from merlin.cli.errors import UsageError
from merlin.errors import Kind, MerlinError
from merlin.output.human import human_duration, human_size, one_line, table
from merlin_images.builders.platforms import open_builder
from merlin_images.builders.port import BuildRequest, BuiltImage, ModelSource
from merlin_images.builders.stored_builds import put_tag
from merlin_images.cli.common import DEFAULTS, Common, app, default_cache, naming, shown
from merlin_images.cli.smoke import SMOKE_DEFAULTS, SmokeOptions, SmokeTest, told
from merlin_images.environments.credentials import IndexCredentials
from merlin_images.environments.model_types import MODEL_TYPES
from merlin_images.image.errors import InvalidImage, InvalidModel
from merlin_images.image.held_lock import read_held_lock
from merlin_images.image.index import read_images
from merlin_images.image.inspect import describe_image
from merlin_images.image.locations import LAYOUT, locate, locate_target
from merlin_images.image.validate import check_image
from merlin_images.layers.model import NoModel
from merlin_images.registry.reference import Reference
from merlin_images.smoke.report import SmokeReport


class UnknownModelType(MerlinError):
    """No model type of Merlin's is called so."""

    code = "model_type_unknown"
    kind = Kind.USAGE


@app.command
def build(
    model: str,
    /,
    *,
    to: list[str],
    model_type: str = "pyfunc",
    name: str = "",
    version: str = "1",
    python: str = f"{sys.version_info.major}.{sys.version_info.minor}",
    base: str = "auto",
    platform: str = "linux/amd64",
    index_url: str = "",
    codec: Literal["zstd", "gzip"] = "zstd",
    byte_compile: bool = True,
    created: datetime | None = None,
    cache: Path | None = None,
    locks: str = "",
    label: list[str] | None = None,
    digest_file: Path | None = None,
    smoke: Annotated[bool, Parameter(negative=())] = False,
    options: SmokeOptions = SMOKE_DEFAULTS,
    common: Common = DEFAULTS,
) -> None:
    """Build the image of a model folder and push it.

    The last line on stdout is the image's digest. Building again what has not changed asks the
    registry once and answers.

    Examples:

      merlin image build ./model --to localhost:5000/demo/cancer:1 --model-type sklearn
      merlin image build ./model --to layout:./images:1
      merlin image build ./model --to registry.example.com/ml/fraud --base python:3.12-slim
      merlin image build s3://models/7/artifacts/model --to registry.example.com/ml/fraud:7
      merlin image build ./model --to localhost:5000/demo:1 --platform linux/amd64,linux/arm64

    Parameters
    ----------
    model
        The folder that was logged, or its URL in a blob store: model.joblib, or a Python function
        with its conda.yaml.
    to
        HOST/NAME[:TAG] of a registry, or layout:DIR[:TAG] for a folder. May be given several times
        with other tags of one name; the last tag is written when all else is done.
    model_type
        pyfunc, sklearn, or another of Merlin's types.
    name
        Name the image's server answers to, together with the version; by default the last part of
        the image's name.
    version
        Version of the model.
    python
        Python of the model, where its environment file names none.
    base
        Base image: a reference, layout:DIR, debian: (made from this machine's package sources), or
        auto.
    platform
        linux/amd64, linux/arm64, or both with a comma between them: one index over an image each.
        A uv target triple such as x86_64-manylinux_2_28 fixes the C library that dependencies may
        need, which is otherwise read from the base.
    index_url
        Package index instead of PyPI.
    codec
        gzip for registries and nodes that do not know zstd.
    byte_compile
        Put byte code beside Python modules, where the base's Python can run here: models start
        about twice as fast.
    created
        Time to put into the image; by default SOURCE_DATE_EPOCH, else that of the newest file.
    cache
        Where layers, wheels and base images are kept; by default merlin in the user's cache folder.
    locks
        Blob store that shares dependency locks with other builders and servers, such as
        s3://models/merlin; by default locks are known to this machine only.
    label
        NAME=VALUE to put into the image's configuration; may be given several times.
    digest_file
        File to write the digest to, such as a container's termination log.
    smoke
        Run the image when it is pushed, as `merlin image smoke` does. If that fails, the command
        does; the image stays under its first tag, and gets no other.
    """
    began = time.monotonic()
    store = _store(model)
    if model_type not in MODEL_TYPES:
        close = get_close_matches(model_type, MODEL_TYPES, n=1)
        raise UnknownModelType(
            f"There is no model type {model_type!r}.",
            hint=f"Did you mean {close[0]}?" if close else f"Types: {', '.join(MODEL_TYPES)}.",
        )
    test = SmokeTest(options, common) if smoke else None
    registry, target = locate_target(to[0], common.open)
    more = [locate_target(place, common.open)[1] for place in to[1:]]
    _check_places(to, target, more)
    builder = open_builder(
        lambda reference: registry if reference.host == target.host else common.open(reference),
        cache or default_cache(),
        default_base=base,
        platform=platform,
        index_url=index_url,
        codec=codec,
        byte_compile=byte_compile,
        lock_store=open_store(locks) if locks else None,
        index_credentials=IndexCredentials(variables=os.environ),
    )
    request = BuildRequest(
        model=ModelSource(store, ""),
        target=target,
        model_type=model_type,
        model_name=name or _default_name(to[0], target),
        version=version,
        python=python,
        created=_created(created, store),
        labels=_labels(label or []),
    )
    with common.progress() as progress:
        built = replace(builder.build(request, progress), seconds=time.monotonic() - began)
        image, report = shown(to[0], built.reference), None
        if test is not None:
            report = test.run(registry, built.reference, name=image, progress=progress)
        if report is None or report.failure is None:
            for place in more:
                put_tag(registry, built.reference, place.tag)
    if digest_file is not None:
        # Not renamed into place: a container's termination log is a mount of its own.
        digest_file.write_text(built.reference.digest)
    tested = {"smoke": report.to_dict()} if report else {}
    common.tell(_told(built, report), {**built.to_dict(), "image": image, **tested})
    if report and report.failure:
        raise report.failure


@app.command
def inspect(
    image: str, /, *, lock: bool = False, platform: str = "", common: Common = DEFAULTS
) -> None:
    """Show what an image holds: layers, base, lock, model; of an index, what each image does.

    Examples:

      merlin image inspect localhost:5000/demo/cancer:1
      merlin image inspect layout:./images:1 --output json
      merlin image inspect registry.example.com/ml/fraud:7 --lock

    Parameters
    ----------
    image
        HOST/NAME[:TAG][@DIGEST], or layout:DIR[:TAG].
    lock
        Show the pylock.toml that the image was made from.
    platform
        Which image of an index; its lock is by default that of linux/amd64, or else of its first.
    """
    registry, reference = locate(image, common.open)
    with naming(image):
        named = read_images(registry, reference, platform=platform)
    described = {
        name: {**describe_image(stored), "image": shown(image, reference)}
        for name, stored in named.images.items()
    }
    if named.index is not None and not lock:
        common.tell(
            "\n\n".join([named.descriptor.digest, *map(_described, described.values())]),
            {
                "image": shown(image, reference),
                "digest": named.descriptor.digest,
                "platforms": described,
            },
        )
        return
    chosen = "linux/amd64" if "linux/amd64" in described else next(iter(described))
    stored, document = named.images[chosen], described[chosen]
    if lock:
        text = read_held_lock(registry, stored)
        common.tell(text.rstrip("\n"), {**document, "lock": {**document["lock"], "text": text}})
        return
    common.tell(_described(document), document)


@app.command
def validate(image: str, /, *, common: Common = DEFAULTS) -> None:
    """Check an image, or all of an index: every digest, size and diff_id is computed anew.

    Examples:

      merlin image validate localhost:5000/demo/cancer:1
      merlin image validate layout:./images:1 --output json

    Parameters
    ----------
    image
        HOST/NAME[:TAG][@DIGEST], or layout:DIR[:TAG].
    """
    registry, reference = locate(image, common.open)
    with common.progress() as progress, naming(image):
        found = check_image(registry, reference, progress)
    document = {**found.to_dict(), "image": shown(image, reference)}
    if found.problems:
        common.tell("\n".join(found.problems), document)
        raise InvalidImage(f"{image} is not valid: {len(found.problems)} problems.")
    size = human_size(found.size)
    common.tell(f"Valid: {found.layers} layers, {size}.\n{found.digest}", document)


def _told(built: BuiltImage, report: SmokeReport | None) -> str:
    rows = [
        (
            layer.kind,
            human_size(layer.size),
            f"{'made' if layer.made else 'reused'}, {layer.action}",
            f"{layer.title} ({layer.platform})" if layer.platform else layer.title,
        )
        for layer in built.layers
    ]
    outcome = "Nothing changed" if built.reused else "Built"
    return "\n".join(
        [
            table(("LAYER", "SIZE", "WHAT WAS DONE", "WHAT IT HOLDS"), rows),
            *(f"Note: {note}" for note in built.notes),
            f"{outcome} in {human_duration(built.seconds)}.",
            *([told(report)] if report else []),
            built.reference.digest,
        ]
    )


def _described(document: Mapping[str, Any]) -> str:
    model, base, lock = document["model"], document["base"], document["lock"]
    facts = [
        ("image", document["image"]),
        ("digest", document["digest"]),
        ("created", document["created"]),
        ("model", " ".join(filter(None, (model["name"], model["version"], model["type"])))),
        ("base", f"{base['name']} {base['digest'][:19]}".strip()),
        ("python", document["python"]),
        ("runtime", document["runtime"]),
        ("environment", document["dependency_hash"][:12]),
        ("lock", f"{lock['key'][:12]} for {lock['platform']}" if lock["key"] else ""),
        ("platform", document["platform"]),
        ("user", document["user"]),
        ("runs", " ".join(document["entrypoint"])),
        ("size", human_size(document["size"])),
    ]
    rows = [
        (layer["kind"], human_size(layer["size"]), layer["digest"][7:19], layer["title"])
        for layer in document["layers"]
    ]
    lines = [f"{name:<12}{one_line(value)}" for name, value in facts if value]
    return "\n".join([*lines, "", table(("LAYER", "SIZE", "DIGEST", "WHAT IT HOLDS"), rows)])


def _store(model: str) -> ArtifactStore:
    if "://" in model:
        return open_store(model)
    folder = Path(model)
    if not folder.is_dir():
        raise NoModel(f"There is no folder {model}.", hint="Give the folder that was logged.")
    _refuse_links(folder)
    return LocalStore(folder)


def _check_places(to: Sequence[str], target: Reference, more: Sequence[Reference]) -> None:
    for text, place in zip(to[1:], more, strict=True):
        if replace(place, tag="") != replace(target, tag="") or not place.tag:
            raise UsageError(
                f"{text} is not another tag of {to[0]}.",
                hint="Give several tags of one name, or copy the image afterwards.",
            )


def _labels(lines: Sequence[str]) -> dict[str, str]:
    labels = {}
    for line in lines:
        name, equals, value = line.partition("=")
        if not name or not equals:
            raise UsageError(f"{line!r} is not a label.", hint="Write it as NAME=VALUE.")
        labels[name] = value
    return labels


def _created(stated: datetime | None, store: ArtifactStore) -> datetime:
    """The time to put into the image: not now, or no two builds would be equal."""
    if stated is not None:
        return stated
    if epoch := os.environ.get("SOURCE_DATE_EPOCH"):
        return datetime.fromtimestamp(int(epoch), UTC)
    return max((info.modified for info in store.list()), default=datetime.fromtimestamp(0, UTC))


def _refuse_links(model: Path) -> None:
    """A store passes over links, and the image would lack what they stand for without a word."""
    for folder, folders, files in os.walk(model):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink():
                raise InvalidModel(
                    f"{str(path.relative_to(model))!a} in {model} is a symbolic link.",
                    hint="Put the file itself there: links may lead out of the model.",
                )


def _default_name(to: str, target: Reference) -> str:
    if to.startswith(LAYOUT):
        return "model"
    return target.repository.rpartition("/")[2]
