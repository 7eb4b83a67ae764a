"""Lists in pages, and watches."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.fake_kubernetes.resources import ResourceType
from tests.fake_kubernetes.selectors import Matcher
from tests.fake_kubernetes.statuses import ApiStatus, bad_request, expired
from tests.fake_kubernetes.storage import Change, Object, Storage

INITIAL_EVENTS_END = {"k8s.io/initial-events-end": "true"}


@dataclass(frozen=True)
class Selection:
    """Which objects a list or a watch is about; ``namespace`` None is all of them."""

    resource: ResourceType
    namespace: str | None
    matches: Matcher

    def holds(self, item: Object) -> bool:
        return self._in_namespace(item) and self.matches(item)

    def concerns(self, change: Change) -> bool:
        return change.resource == self.resource and self._in_namespace(change.after)

    def _in_namespace(self, item: Object) -> bool:
        return self.namespace in (None, item["metadata"].get("namespace", ""))


class Lists:
    """Pages of consistent snapshots. A page's token is good until the history is compacted."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._rest: dict[str, list[Object]] = {}

    def forget(self) -> None:
        self._rest.clear()

    def page(self, selection: Selection, limit: int, token: str, version: str) -> Object:
        """One page. Raises 410 for a token whose snapshot is no longer kept."""
        with self._storage.changed:
            current = self._storage.version
            if token:
                current, found = self._resumed(token)
            else:
                if version and int(version) > current:
                    message = f"Timeout: Too large resource version: {version}, current: {current}"
                    raise ApiStatus(504, "Timeout", message, retry_after=1)
                everything = self._storage.all(selection.resource)
                found = [item for item in everything if selection.holds(item)]
            items, rest = (found[:limit], found[limit:]) if limit else (found, [])
            metadata: Object = {"resourceVersion": str(current)}
            if rest:
                content = json.dumps({"v": current, "n": len(self._rest)}).encode()
                metadata["continue"] = base64.urlsafe_b64encode(content).decode()
                self._rest[metadata["continue"]] = rest
                # Real servers count only where no selector makes counting dear.
                metadata["remainingItemCount"] = len(rest)
            resource = selection.resource
            return {
                "kind": f"{resource.kind}List",
                "apiVersion": resource.api_version,
                "metadata": metadata,
                "items": items,
            }

    def _resumed(self, token: str) -> tuple[int, list[Object]]:
        try:
            version = json.loads(base64.urlsafe_b64decode(token))["v"]
        except (ValueError, KeyError) as error:
            raise bad_request("continue key is not valid") from error
        if token not in self._rest:
            raise expired(
                "The provided continue parameter is too old to display a consistent list result."
                " You must start a new list without the continue parameter."
            )
        return version, self._rest[token]


def watch(
    storage: Storage,
    selection: Selection,
    *,
    version: str,
    bookmarks: bool,
    initial: bool,
    seconds: float | None,
    ended: Callable[[], bool],
) -> Iterator[Object | None]:
    """Yield events until ``seconds`` have passed or the server ends the watch.

    Without a version the present objects come first, as if they had just been added. None is
    yielded when nothing happened for a moment, so that the server can notice a client that left.
    Raises 410 where the version is older than the history.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    resource = selection.resource
    position = storage.version if version in ("", "0") else int(version)
    if version in ("", "0") or initial:
        with storage.changed:
            position = storage.version
            present = [item for item in storage.all(resource) if selection.holds(item)]
        yield from ({"type": "ADDED", "object": item} for item in present)
        if initial and bookmarks:
            yield _bookmark(resource, position, INITIAL_EVENTS_END)
    while not ended():
        with storage.changed:
            changes = storage.changes_after(position, selection.concerns)
            if not changes and position == storage.version:
                left = 0.5 if deadline is None else min(0.5, deadline - time.monotonic())
                if left <= 0:
                    break
                storage.changed.wait(left)
                changes = storage.changes_after(position, selection.concerns)
            moved, position = position != storage.version, storage.version
        events = [event for change in changes if (event := _event(change, selection))]
        yield from events
        if moved and not events and bookmarks:
            yield _bookmark(resource, position, {})
        elif not events:
            yield None
        if deadline is not None and time.monotonic() >= deadline:
            break
    if bookmarks and not ended():
        yield _bookmark(resource, position, {})


def _event(change: Change, selection: Selection) -> Object | None:
    """What a change is to a selection: leaving it is a removal, entering it an addition."""
    was = change.before is not None and selection.holds(change.before)
    # The last state decides for a removal: its labels are those it was selected by.
    now = change.kind != "DELETED" and selection.holds(change.after)
    if was and now:
        return {"type": "MODIFIED", "object": change.after}
    if now:
        return {"type": "ADDED", "object": change.after}
    if was:
        return {"type": "DELETED", "object": change.after}
    return None


def _bookmark(resource: ResourceType, version: int, annotations: dict[str, str]) -> Object:
    metadata: Object = {"resourceVersion": str(version), "creationTimestamp": None}
    if annotations:
        metadata["annotations"] = annotations
    item = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
    return {"type": "BOOKMARK", "object": item}
