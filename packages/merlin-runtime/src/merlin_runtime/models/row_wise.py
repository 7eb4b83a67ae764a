"""Which estimators may be given the rows of several requests in one call."""

from __future__ import annotations

from typing import Any, Set

_LIBRARIES = frozenset(("builtins", "lightgbm", "numpy", "scipy", "sklearn", "xgboost"))


def is_row_wise(estimator: Any) -> bool:
    """Whether each row's prediction depends on that row alone.

    Known of the libraries' own classes only. A pipeline with a step or function of the user's may
    look at all rows (their mean, say), so it is called for each request apart.
    """
    if not hasattr(estimator, "get_params"):
        return False
    parts = [estimator, *estimator.get_params(deep=True).values()]
    return {module for part in parts for module in _modules(part)} <= _LIBRARIES


def _modules(part: Any) -> Set[str]:
    if isinstance(part, (list, tuple, set, frozenset)):
        return {module for inner in part for module in _modules(inner)}
    if isinstance(part, dict):
        return _modules([*part.keys(), *part.values()])
    if callable(part) and not isinstance(part, type) and not hasattr(part, "get_params"):
        # numpy's own functions are no safer than the user's: numpy.cumsum looks at all rows.
        module = str(getattr(part, "__module__", None)).partition(".")[0]
        return {module if module == "sklearn" else "a function"}
    classes = (part if isinstance(part, type) else type(part)).__mro__
    return {kind.__module__.partition(".")[0] for kind in classes} - {"abc", "typing"}
