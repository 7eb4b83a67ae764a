"""How many CPUs this process may use, and telling numeric libraries so.

BLAS and OpenMP start one thread for each core of the node, whatever the container may use; with a
quota of one CPU on a 64-core node that makes predictions slower by an order of magnitude.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import MutableMapping, Optional

CGROUP_ROOT = Path("/sys/fs/cgroup")

_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def usable_cpus(cgroup_root: Path = CGROUP_ROOT) -> int:
    """Return the cgroup's CPU quota rounded up, or the CPUs we may be scheduled on, if fewer."""
    try:
        scheduled = len(os.sched_getaffinity(0))
    except AttributeError:
        scheduled = os.cpu_count() or 1
    quota = _quota(cgroup_root)
    return scheduled if quota is None else max(1, min(scheduled, math.ceil(quota)))


def limit_numeric_threads(environ: MutableMapping[str, str], cpus: int) -> None:
    """Set the libraries' variables to ``cpus`` where the user set none. They are read when the
    library is loaded, so this comes before any import of numpy."""
    for variable in _VARIABLES:
        environ.setdefault(variable, str(cpus))


def _quota(root: Path) -> Optional[float]:
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        cpus = float(quota) / float(period)
    except (ValueError, ZeroDivisionError):
        return None  # "max": no quota
    return cpus if cpus > 0 else None
