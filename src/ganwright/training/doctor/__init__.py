"""The doctor: live diagnosis of a training, from what the loop logs, samples and evaluates.

`Doctor` asks each check of `CHECKS` and decides what is worth saying; a check is one small class in a file
of its family. Nothing here changes a training: the loop prints, logs and, for a finding that says so, stops.
"""

from ganwright.training.doctor.check import Check, Healthy, Symptom, Verdict
from ganwright.training.doctor.doctor import Doctor
from ganwright.training.doctor.finding import Finding, Severity
from ganwright.training.doctor.table import CHECKS, CheckInfo

__all__ = ["CHECKS", "Check", "CheckInfo", "Doctor", "Finding", "Healthy", "Severity", "Symptom", "Verdict"]
