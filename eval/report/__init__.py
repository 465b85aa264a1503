"""The report of ``conclave eval routing``: one HTML file that can be mailed, opened and believed.

``figures`` computes what is shown, ``charts`` draws it, ``page`` puts it together; ``markup`` is
the only door by which text gets into the file. What the policies are and how they are judged is
``eval.routing.points``'s and ``eval.routing.verdict``'s business.
"""

from __future__ import annotations

from pathlib import Path

from eval.report.experts import fitted_beliefs
from eval.report.figures import ReportFigures, report_figures
from eval.report.page import Made, page
from experts.errors import DataError

__all__ = [
    "Made",
    "ReportFigures",
    "check_target",
    "fitted_beliefs",
    "page",
    "report_figures",
    "write_report",
]


def check_target(path: Path) -> None:
    """Raises DataError where a report could not be written: ask before the long run, not after."""
    if path.is_dir():
        raise DataError(f"{path} is a folder. Name the file that the report becomes: report.html.")
    if not path.absolute().parent.is_dir():
        raise DataError(f"There is no folder {path.absolute().parent} to write {path.name} in.")
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.touch()  # rights do not tell: root has them all, and /proc takes nothing
        beside.unlink()
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from None


def write_report(path: Path, figures: ReportFigures, made: Made) -> None:
    """Write the page, whole or not at all. Raises DataError as ``check_target`` does."""
    check_target(path)
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_text(page(figures, made), encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
