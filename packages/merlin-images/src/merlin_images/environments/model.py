"""What an environment is: the specification a user wrote, and the lock that came of it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Target:
    """What a lock is made for.

    ``platform`` is a uv target triple such as ``x86_64-manylinux_2_28``; the number is a ceiling:
    the newest glibc the wheels may need. ``python`` is ``major.minor``.
    """

    platform: str
    python: str


@dataclass(frozen=True)
class CredentialNames:
    """Which variables hold the credentials for ``host``: ``user`` and ``password`` are what stood
    in an address, such as ``${USER}`` or ``__token__``; ``place`` says where, for messages."""

    host: str
    user: str
    password: str
    variables: tuple[str, ...]
    place: str = field(default="", compare=False)


@dataclass(frozen=True)
class EnvironmentSpec:
    """A normalised environment file: equal specs get equal locks, whatever their spelling.

    ``requirements`` are PEP 508 lines, sorted, without comments. ``python`` is ``major.minor``.
    With ``locked`` the constraints are those of a lock that was logged with the model.
    ``credentials`` name what indexes want, ``notes`` tell the user what was changed or assumed on
    the way; these are no part of equality.
    """

    python: str
    requirements: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    index_options: tuple[str, ...] = ()
    credentials: tuple[CredentialNames, ...] = field(default=(), compare=False)
    locked: bool = field(default=False, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class LockedWheel:
    """One wheel of a lock. ``url`` carries no credentials."""

    name: str
    version: str
    filename: str
    url: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Lock:
    """A resolved environment. ``key`` is a hash of normalised inputs and target; ``text`` is the
    pylock.toml (PEP 751) from which uv can install and from which ``wheels`` were read, sorted by
    name. The same key always has the same text, once created. ``environment`` is the dependency
    hash of the specification it was made from; ``notes`` tell what resolving it just now had to
    assume."""

    key: str
    target: Target
    text: str
    wheels: tuple[LockedWheel, ...]
    environment: str = ""
    notes: tuple[str, ...] = field(default=(), compare=False)
