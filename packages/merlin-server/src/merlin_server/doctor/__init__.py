"""``merlin doctor``: try, in small, all that a deployment needs of what the settings name."""

from merlin_server.doctor.examination import examine, run_doctor
from merlin_server.doctor.steps import DoctorFoundFaults, Finding, Outcome

__all__ = ["DoctorFoundFaults", "Finding", "Outcome", "examine", "run_doctor"]
