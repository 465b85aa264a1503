"""What sections of the report are made of: charts in two sizes, legends, tables to unfold."""

from __future__ import annotations

from collections.abc import Sequence

from eval.report import charts
from eval.report.markup import Child, Html, element, joined


def section(name: str, title: str, *children: Child) -> Html:
    return element(
        "section", element("h2", title, id=f"{name}-title"), *children,
        id=name, aria_labelledby=f"{name}-title",
    )  # fmt: skip


def figure(caption: str, draw: charts.Draw, *, one_size: int | None = None) -> Html:
    """A chart for wide screens and one for phones; only one is shown (and read out)."""
    if one_size:
        drawn = element("div", draw(one_size), class_="chart")
    else:
        drawn = joined(
            element("div", draw(charts.WIDE_PX), class_="chart wide"),
            element("div", draw(charts.NARROW_PX), class_="chart narrow"),
        )
    return element("figure", element("figcaption", caption), drawn)


def legend(items: Sequence[tuple[str, str, bool]]) -> Html:
    """Classes and what they stand for; those that are there."""
    shown = [
        element(
            "li",
            element(
                "svg",
                element("line", x1=1, y1=8, x2=25, y2=8, class_=f"line {class_}"),
                element("circle", cx=13, cy=8, r=4, class_=f"mark {class_}"),
                viewBox="0 0 26 16", width=26, height=16, aria_hidden="true",
            ),
            text,
        )
        for class_, text, there in items
        if there
    ]  # fmt: skip
    return element("ul", *shown, class_="legend")


def details(summary: str, table: Html) -> Html:
    return element("details", element("summary", summary), table)


def cut(n: int, what: str) -> str:
    return f"The chart shows {charts.MAX_ROWS} of {n} {what}." if n > charts.MAX_ROWS else ""
