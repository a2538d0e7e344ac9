"""Checks that find out early what would spoil a run."""

from wav2vec_u.doctor.diagnose import diagnose
from wav2vec_u.doctor.findings import Finding, print_findings

__all__ = ["Finding", "diagnose", "print_findings"]
