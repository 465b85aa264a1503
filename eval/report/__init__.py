"""The report of ``conclave eval routing``: one HTML file that can be mailed, opened and believed.

``figures`` computes what is shown, ``charts`` draws it, ``page`` puts it together; ``markup`` is
the only door by which text gets into the file. What the policies are and how they are judged is
``eval.routing.points``'s and ``eval.routing.verdict``'s business.
"""

from __future__ import annotations

from pathlib import Path

from eval.report.experts import fitted_beliefs
from eval.report.figures import ReportFigures, report_figures
from eval.report.made import Made
from eval.report.page import page
from eval.whole_files import check_target, write_whole

__all__ = [
    "EXAMPLE",
    "Made",
    "ReportFigures",
    "fitted_beliefs",
    "page",
    "report_figures",
    "write_report",
]

EXAMPLE = "report.html"


def write_report(path: Path, figures: ReportFigures, made: Made) -> None:
    """Write the page, whole or not at all. Raises DataError where it cannot be written."""
    check_target(path, example=EXAMPLE)
    write_whole(path, page(figures, made))
