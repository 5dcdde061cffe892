"""A comparison as a page, as files, and as a table on the terminal."""

from ase_atom.analysis.report.page import check_folder, write_report
from ase_atom.analysis.report.table import print_comparison

__all__ = ["check_folder", "print_comparison", "write_report"]
