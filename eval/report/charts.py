"""The report's other charts: belief, objective, and marks by row.

Each is drawn for a width in pixels: once for wide screens, once for phones, so that text has the
same size on both. Colours and line styles are classes of ``page.css``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from eval.report.axes import percent_ticks, point_ticks, price_ticks
from eval.report.drawing import Canvas, padded, shortened
from eval.report.figures import Believed, Objective, ReportFigures
from eval.report.frontier_chart import NARROW_BELOW_PX, policy_class, prominence
from eval.report.markup import Html
from eval.report.writing import percent, price
from eval.statistics import wilson_interval

WIDE_PX, NARROW_PX = 780, 360
MAX_ROWS = 30
"""Rows of a chart by row; the table beside it has all."""
OBJECTIVE_TOP = 1.75
"""Where the relative objective is cut off: beyond, a policy is merely bad."""
N_RISK_POINTS = 120
Draw = Callable[[int], Html]
"""A chart by its width in pixels."""


def reliability_diagram(b: Believed, width: int) -> Html:
    """Promised against observed; a dot's area is the number of queries."""
    side = min(width, 380)
    canvas = Canvas(side, side - 20, left=52)
    x, y = canvas.x(0, 1), canvas.y(0, 1)
    canvas.x_axis(x, "P(right) that was promised", percent_ticks, n=5)
    canvas.y_axis(y, "share that was right", percent_ticks, n=5)
    canvas.rule(x(0), y(0), x(1), y(1), "reference")
    most = max(bin_.n for bin_ in b.bins)
    for bin_ in b.bins:
        low, high = wilson_interval(bin_.observed * bin_.n, bin_.n)
        canvas.whisker(x(bin_.predicted), y(low), x(bin_.predicted), y(high), "composition")
    for bin_ in b.bins:
        canvas.dot(
            x(bin_.predicted), y(bin_.observed), "composition",
            f"promised {percent(bin_.predicted)}, observed {percent(bin_.observed)}, "
            f"{bin_.n} queries",
            r=2.5 + 8 * math.sqrt(bin_.n / most),
        )  # fmt: skip
    return canvas.element(
        f"Reliability of {b.policy}: expected calibration error {b.ece:.3f}. On the diagonal, what "
        "was promised came. The bins are in the table below."
    )


def risk_coverage_diagram(b: Believed, width: int) -> Html:
    """Share wrong among the surest queries, by how many of them are answered."""
    side = min(width, 380)
    canvas = Canvas(side, side - 20, left=52)
    n = len(b.risk)
    ideal = np.maximum(0.0, 1 - (1 - b.risk[-1]) / b.coverage)
    top = max(0.05, float(max(b.risk.max(), b.risk[-1])) * 1.08)
    x, y = canvas.x(0, 1), canvas.y(0, min(1.0, top))
    canvas.x_axis(x, "share of the queries answered, surest first", percent_ticks, n=5)
    canvas.y_axis(y, "share wrong among these", percent_ticks, n=5)
    rows = np.unique(np.linspace(0, n - 1, min(n, N_RISK_POINTS)).astype(int))
    canvas.line([(x(b.coverage[i]), y(ideal[i])) for i in rows], "ideal")
    canvas.line([(x(b.coverage[i]), y(b.risk[i])) for i in rows], "composition")
    for share in (0.2, 0.4, 0.6, 0.8, 1.0):
        i = max(0, math.ceil(share * n) - 1)
        canvas.dot(
            x(b.coverage[i]), y(b.risk[i]), "composition",
            f"the surest {percent(b.coverage[i])}: {percent(b.risk[i])} wrong",
        )  # fmt: skip
    return canvas.element(
        f"Risk against coverage of {b.policy}: area under the curve {b.aurc:.3f}, at best "
        f"{b.aurc_ideal:.3f}. Values are in the table below."
    )


def objective_diagram(o: Objective, f: ReportFigures, width: int) -> Html:
    """Dollars with failures at V, relative to the best single model."""
    narrow = width < NARROW_BELOW_PX
    canvas = Canvas(width, 300 if narrow else 360, left=52, right=18 if narrow else 120)
    x = canvas.x(o.prices_usd[0], o.prices_usd[-1], log=True)
    shown = np.concatenate([np.minimum(v, OBJECTIVE_TOP) for v in o.relative.values()])
    low, high = padded([*shown.tolist(), 1.0])
    y = canvas.y(max(0.0, low), min(high, OBJECTIVE_TOP))
    canvas.x_axis(x, "price of a wrong answer, V (log)", price_ticks, n=4 if narrow else 8)
    canvas.y_axis(y, "calls and failures, best single model = 100 %", percent_ticks, n=6)
    canvas.rule(x.start, y(1), x.end, y(1), "reference")
    canvas.rule(x(f.break_even_usd), y.start, x(f.break_even_usd), y.end, "grid")
    cut = [
        *zip(o.prices_usd, o.high, strict=True),
        *zip(o.prices_usd[::-1], o.low[::-1], strict=True),
    ]
    canvas.band([(x(v), y(min(r, y.high))) for v, r in cut], policy_class(o.leader, f))
    order = sorted(o.relative, key=lambda name: prominence(name, f))
    for name in order:
        class_ = policy_class(name, f)
        inside = [(v, r) for v, r in zip(o.prices_usd, o.relative[name], strict=True)]
        canvas.line([(x(v), y(r)) for v, r in inside], class_)
        for v, r in inside[:: 3 if class_ in ("composition", "router") else 6]:
            if y.holds(r):
                canvas.dot(x(v), y(r), class_, f"{name}: {percent(r)} of the best single model's "
                           f"total at V = {price(v)}", r=2.6)  # fmt: skip
    if not narrow:
        _end_labels(canvas, [(n, y(o.relative[n][-1])) for n in order if y.holds(
            o.relative[n][-1])] + [("best single", y(1))], x.end)  # fmt: skip
    return canvas.element(
        "Dollars per query with failures priced in, relative to the best single model, against the "
        "price of a failure. Values are in the table below."
    )


def _end_labels(canvas: Canvas, ends: list[tuple[str, float]], x: float) -> None:
    """Names at the ends of lines, moved apart where they would touch."""
    last = -math.inf
    for name, at in sorted(ends, key=lambda e: e[1]):
        last = max(at, last + 15)
        canvas.text(x + 6, last + 4, shortened(name, 16), "label")


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A value in a row, with its interval where it has one."""

    value: float
    class_: str
    tip: str
    ci: tuple[float, float] | None = None
    stem: bool = False
    """A line from zero."""


def by_row(
    rows: Sequence[tuple[str, Sequence[Mark]]],
    width: int,
    *,
    x_label: str,
    label: str,
    scale: tuple[float, float] | None = None,
    share: bool = True,
) -> Html:
    """Rows of marks on one scale; zero is always on it. The first ``MAX_ROWS`` only."""
    rows = rows[:MAX_ROWS]
    narrow = width < NARROW_BELOW_PX
    longest = max((len(name) for name, _ in rows), default=0)
    left = 14 if narrow else min(230, 20 + 7 * longest)
    step = 40 if narrow else 27
    canvas = Canvas(width, step * len(rows) + 58, left=left, right=22, top=10)
    values = [v for _, marks in rows for m in marks for v in (m.value, *(m.ci or ()))]
    low, high = scale or padded([0.0, *values])
    if not scale and min([0.0, *values]) >= 0:
        low = 0.0
    x = canvas.x(low, high)
    canvas.x_axis(x, x_label, percent_ticks if share else point_ticks, n=5 if width < 460 else 8)
    if not narrow:
        canvas.rule(x(0), canvas.top, x(0), canvas.bottom, "zero")
    for i, (name, marks) in enumerate(rows):
        base = canvas.top + step * i + (28 if narrow else step / 2)
        if narrow:
            canvas.rule(x(0), base - 8, x(0), base + 8, "zero")  # not through the names
            canvas.text(left, base - 11, shortened(name, 44), "label")
        else:
            canvas.text(left - 8, base + 4, shortened(name, 32), "label end")
        apart = 8.0 if len(marks) > 1 and any(m.stem for m in marks) else 0.0
        for j, mark in enumerate(marks):
            at = base + apart * (j - (len(marks) - 1) / 2)
            if mark.stem:
                canvas.whisker(x(0), at, x(mark.value), at, f"stem {mark.class_}")
            if mark.ci:
                canvas.whisker(x(mark.ci[0]), at, x(mark.ci[1]), at, mark.class_)
            canvas.dot(x(mark.value), at, mark.class_, mark.tip, r=4)
    return canvas.element(label)
