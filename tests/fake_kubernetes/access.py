"""Tokens, and what each may do: as much of role-based access as refusals need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.fake_kubernetes.resources import Target
from tests.fake_kubernetes.statuses import forbidden, unauthorized


@dataclass(frozen=True)
class Rule:
    """Allows verbs on resources (``jobs``, ``pods/log``, ``*``), in one namespace or in all."""

    verbs: Sequence[str]
    resources: Sequence[str]
    namespace: str = "*"

    def allows(self, verb: str, resource: str, namespace: str) -> bool:
        return (
            bool({"*", verb} & set(self.verbs))
            and bool({"*", resource} & set(self.resources))
            and self.namespace in ("*", namespace)
        )


EVERYTHING = (Rule(["*"], ["*"]),)


class Access:
    """Who holds which token. Tokens can be added and revoked while the server runs."""

    def __init__(self) -> None:
        self._users: dict[str, tuple[str, Sequence[Rule]]] = {}

    def grant(self, token: str, user: str, rules: Sequence[Rule]) -> None:
        self._users[token] = (user, rules)

    def revoke(self, token: str) -> None:
        self._users.pop(token, None)

    def check(self, authorization: str, verb: str, target: Target) -> None:
        """Raise 401 for an unknown token and 403 for what its rules do not allow."""
        user, rules = self._user(authorization)
        if any(rule.allows(verb, target.plural, target.namespace) for rule in rules):
            return
        space = target.namespace
        where = f' in the namespace "{space}"' if space else " at the cluster scope"
        why = (
            f'User "{user}" cannot {verb} resource "{target.plural}"'
            f' in API group "{target.resource.group}"{where}'
        )
        raise forbidden(target.resource, target.name, why)

    def authenticate(self, authorization: str) -> None:
        """Raise 401 for an unknown token."""
        self._user(authorization)

    def _user(self, authorization: str) -> tuple[str, Sequence[Rule]]:
        user = self._users.get(authorization.removeprefix("Bearer "))
        if user is None:
            raise unauthorized()
        return user
