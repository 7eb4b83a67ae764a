"""``merlin image context`` and ``push``: what goes before and after a build by other tools.

Between them a Dockerfile is built by Kaniko, BuildKit or buildah, which runs the user's code. It
needs no credentials then: these two commands have fetched all it reads, and push what it made.
"""

from __future__ import annotations

from pathlib import Path

from merlin.output.human import human_size
from merlin_images.cli.common import DEFAULTS, Common, app
from merlin_images.image.push import push_image


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
