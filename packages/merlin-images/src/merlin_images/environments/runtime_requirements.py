"""What the runtime in every image needs, as the installed merlin-runtime itself says."""

from __future__ import annotations

from importlib.metadata import requires

from packaging.requirements import Requirement

from merlin_images.environments.requirement_lines import normalise


def runtime_requirements(distribution: str = "merlin-runtime") -> list[str]:
    """Return the distribution's requirements, sorted, with markers but without its extras'."""
    requirements = [Requirement(line) for line in requires(distribution) or ()]
    return sorted(
        normalise(requirement)
        for requirement in requirements
        if requirement.marker is None or "extra ==" not in str(requirement.marker)
    )
