"""The skeleton of a virtual environment, written by hand: nothing runs, any platform will do.

A real environment, other than a folder on ``PYTHONPATH``, gets its ``.pth`` files run.
"""

from __future__ import annotations

from functools import partial

from merlin_images.layers.tar import Entry, directories


def venv_entries(prefix: str, python: str, base_python: str = "/usr/bin/python3.11") -> list[Entry]:
    """Return pyvenv.cfg, the interpreter's links and an empty site-packages, parents included.

    ``python`` is ``major.minor``; ``base_python`` the interpreter's path in the base image.
    """
    root = prefix.strip("/")
    config = (
        f"home = {base_python.rpartition('/')[0]}\n"
        "include-system-site-packages = false\n"
        f"version = {python}\n"
    ).encode()
    content = [
        Entry(f"{root}/bin/python", 0o777, kind="symlink", target=base_python),
        Entry(f"{root}/bin/python3", 0o777, kind="symlink", target="python"),
        Entry(f"{root}/bin/python{python}", 0o777, kind="symlink", target="python"),
        Entry(f"{root}/lib/python{python}/site-packages", 0o755, kind="directory"),
        Entry(f"{root}/lib64", 0o777, kind="symlink", target="lib"),
        Entry(f"{root}/pyvenv.cfg", 0o644, size=len(config), source=partial(iter, [config])),
    ]
    parents = directories(entry.path for entry in content)
    return sorted([*parents, *content], key=lambda entry: entry.path.encode())
