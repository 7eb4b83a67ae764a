"""``merlin image context`` and ``push``: what goes before and after a build by other tools.

Between them a Dockerfile is built by Kaniko, BuildKit or buildah, which runs the user's code. It
needs no credentials then: these two commands have fetched all it reads, and push what it made.
"""

from __future__ import annotations

import sys
from pathlib import Path

from merlin.output.human import human_size
from merlin_images.cli.common import DEFAULTS, Common, app
from merlin_images.context.base_image import BaseFormat, FetchedBase, fetch_base
from merlin_images.context.build_arguments import parse_build_arguments
from merlin_images.context.errors import ContextRefused
from merlin_images.context.write import ContextRequest, Kind, WrittenContext, write_context
from merlin_images.image.push import push_image


@app.command
def context(
    *,
    model_url: str,
    to: Path,
    kind: Kind = "online",
    python: str = f"{sys.version_info.major}.{sys.version_info.minor}",
    environment_url: str = "",
    model_type: str = "",
    dockerfile: Path | None = None,
    base: str = "",
    base_to: Path | None = None,
    base_format: BaseFormat = "oci-layout",
    index_url: str = "",
    build_arg: list[str] | None = None,
    common: Common = DEFAULTS,
) -> None:
    """Write the folder that Kaniko, BuildKit or buildah builds a model's image from.

    It holds a Dockerfile, the environment, the model and our own wheels, so the build needs no
    credentials. Nothing of the model is run. The last line on stdout is the folder.

    Examples:

      merlin image context --model-url s3://models/7/artifacts/model --to ./context
      merlin image context --model-url gs://models/7/artifacts/model --kind batch --to ./context
      merlin image context --model-url /data/model --to ./context --dockerfile ./our.Dockerfile

    Parameters
    ----------
    model_url
        The model folder in a blob store.
    to
        The folder to write; a context that is there is replaced.
    kind
        online for a model server, batch for prediction jobs.
    python
        Python of the model, where its environment file names none.
    environment_url
        An environment file in a blob store, instead of the one in the model folder.
    model_type
        pyfunc, sklearn, or another of Merlin's types; by default pyfunc, or pyfunc_v2 for batch.
    dockerfile
        A Dockerfile of your own, instead of Merlin's.
    base
        Base image to fetch too: HOST/NAME[:TAG][@DIGEST], or layout:DIR.
    base_to
        The folder to fetch it into.
    base_format
        kaniko-cache for Kaniko's --cache-dir, oci-layout for BuildKit and buildah.
    index_url
        Package index instead of PyPI, where the environment names none; without credentials.
    build_arg
        NAME=VALUE that the builder will be given; may be given several times. Credentials are
        refused.
    """
    if bool(base) != (base_to is not None):
        raise ContextRefused("A base image needs both --base and --base-to.")
    request = ContextRequest(
        model_url=model_url,
        kind=kind,
        python=python,
        environment_url=environment_url,
        model_type=model_type,
        dockerfile=dockerfile,
        build_arguments=parse_build_arguments(build_arg or ()),
        index_url=index_url,
    )
    with common.progress() as progress:
        fetched = None
        if base_to is not None:
            fetched = fetch_base(
                base, base_to, base_format, open_registry=common.open, progress=progress
            )
        written = write_context(request, to, progress)
    common.tell(*_told(written, fetched))


@app.command
def push(
    image: str,
    /,
    *,
    to: list[str],
    digest_file: Path | None = None,
    common: Common = DEFAULTS,
) -> None:
    """Push an image that another tool built, after checking every digest in it.

    The last line on stdout is the digest. Nothing of the image is run.

    Examples:

      merlin image push ./image --to registry.example.com/ml/fraud:7
      merlin image push image.tar --to registry.example.com/ml/fraud:7 --digest-file digest

    Parameters
    ----------
    image
        A folder that is an OCI layout, or a file: an OCI archive or a Docker archive.
    to
        HOST/NAME:TAG; may be given several times.
    digest_file
        File to write the digest to, such as a container's termination log.
    """
    with common.progress() as progress:
        found = push_image(image, to, common.open, progress)
    if digest_file is not None:
        # Not renamed into place: a container's termination log is a mount of its own.
        digest_file.write_text(found.digest)
    size = human_size(found.size)
    common.tell(
        "\n".join([*(f"Pushed {place}" for place in to), f"Manifest of {size}", found.digest]),
        {"images": to, "digest": found.digest},
    )


def _told(written: WrittenContext, base: FetchedBase | None) -> tuple[str, dict[str, object]]:
    facts = {**written.facts, "folder": str(written.folder), "written": written.written}
    outcome = "written" if written.written else "unchanged"
    lines = [
        *(f"Note: {note}" for note in written.notes),
        f"{facts['files']} files for Python {facts['python']}, {outcome}.",
    ]
    if base is not None:
        facts["base"] = {"image": str(base.reference), "folder": str(base.folder)}
        lines.append(f"Base image {base.reference} in {base.folder}.")
    return "\n".join([*lines, str(written.folder)]), facts
