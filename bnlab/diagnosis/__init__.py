"""Find out what is wrong with the Batch Normalization layers of a model.

:func:`diagnose` looks at any torch model; ``CHECKS`` is the table of what it looks for. The command is
``bnlab diagnose``.
"""

from bnlab.diagnosis._diagnose import diagnose
from bnlab.diagnosis.report import Finding, FindingsError, Report
from bnlab.diagnosis.table import CHECKS, FAMILIES, Check

__all__ = ["CHECKS", "FAMILIES", "Check", "Finding", "FindingsError", "Report", "diagnose"]
