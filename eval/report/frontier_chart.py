"""The chart that the report is about: accuracy on dollars, of everything that was compared.

Drawn twice: whole, and around the best single model, where the picks are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from eval.report.axes import dollar_ticks, percent_ticks
from eval.report.drawing import Canvas, Scale, padded, shortened
from eval.report.figures import BASELINES, Curve, ReportFigures, is_composition
from eval.report.markup import Html
from eval.report.writing import dollars, percent, setting

NARROW_BELOW_PX = 500
NAMED = ("oracle", "random")
"""Policies whose single point carries its name."""
_ORDER = ("other", "random", "best-per-task", "cheapest", "oracle", "single", "router")
_PROMINENT = ("composition", "router")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ranges:
    cost_usd_per_1k: tuple[float, float]
    accuracy: tuple[float, float]


def frontier(f: ReportFigures, width: int, *, near: bool = False) -> Html:
    """Every policy's curve, every model, the picks; ``near`` the best single model only."""
    narrow = width < NARROW_BELOW_PX
    single = f.verdict.best_single
    ranges = _near(f) if near else _whole(f)
    canvas = Canvas(width, 350 if narrow else 450, left=52)
    log = ranges.cost_usd_per_1k[0] > 0  # a free model has no place on a logarithm
    low, high = ranges.cost_usd_per_1k
    stretch = (high / low) ** 0.05 * 1.02 if log else 1.0
    x = (
        canvas.x(low / stretch, high * stretch, log=True)
        if log
        else canvas.x(*padded(ranges.cost_usd_per_1k))
    )
    y = canvas.y(*ranges.accuracy)
    canvas.x_axis(
        x,
        f"dollars per 1000 queries{' (log)' if log else ''}",
        dollar_ticks,
        n=4 if narrow else 9,
    )
    canvas.y_axis(y, "accuracy", percent_ticks)
    if y.holds(single.accuracy):
        canvas.rule(x.start, y(single.accuracy), x.end, y(single.accuracy), "reference")
    chart = _Chart(canvas=canvas, x=x, y=y)
    for m in f.models:
        tip = f"{m.model} alone: {percent(m.accuracy)} at ${dollars(m.cost_usd_per_1k)} per 1000"
        chart.dot(m.cost_usd_per_1k, m.accuracy, "model", tip)
    for curve in sorted(f.curves, key=lambda c: prominence(c.policy, f)):
        _draw_curve(chart, curve, policy_class(curve.policy, f))
    _draw_picks(chart, f, narrow=narrow)
    for curve in f.curves:
        if curve.policy in NAMED:
            chart.label(curve.cost_usd_per_1k[0], curve.accuracy[0], curve.policy, "quiet")
    for m in sorted(f.models, key=lambda m: -m.accuracy):
        if m.model != f.best_model:
            name = shortened(m.model, 14 if narrow else 26)
            chart.label(m.cost_usd_per_1k, m.accuracy, name, "quiet")
    best = f.best.figures
    return canvas.element(
        "Accuracy against dollars per 1000 queries, "
        f"{'around the best single model' if near else 'of every policy and model'}. "
        f"{best.policy} reaches {percent(best.accuracy)} at ${dollars(best.cost_usd_per_1k)}; the "
        f"best single model {percent(single.accuracy)} at ${dollars(single.cost_usd_per_1k)}. "
        "All points are in the table below."
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chart:
    """A canvas with its two scales; what lies outside of them is left out."""

    canvas: Canvas
    x: Scale
    y: Scale

    def holds(self, cost: float, accuracy: float) -> bool:
        return self.x.holds(cost) and self.y.holds(accuracy)

    def dot(
        self,
        cost: float,
        accuracy: float,
        class_: str,
        tip: str,
        *,
        r: float = 3.5,
        shape: str = "circle",
    ) -> None:
        if self.holds(cost, accuracy):
            self.canvas.dot(self.x(cost), self.y(accuracy), class_, tip, r=r, shape=shape)

    def label(
        self, cost: float, accuracy: float, text: str, class_: str, *, must: bool = False
    ) -> None:
        if self.holds(cost, accuracy):
            self.canvas.label(self.x(cost), self.y(accuracy), text, class_, must=must)


def _whole(f: ReportFigures) -> _Ranges:
    every = [point for curve in f.curves for point in _of(curve)]
    every += [(m.cost_usd_per_1k, m.accuracy) for m in f.models]
    costs, accuracies = zip(*every, strict=True)
    return _Ranges(cost_usd_per_1k=(min(costs), max(costs)), accuracy=padded(accuracies))


def _near(f: ReportFigures) -> _Ranges:
    single = f.verdict.best_single
    high = max(f.best.figures.accuracy, f.equal.figures.accuracy, single.accuracy)
    room = max(0.015, high - single.accuracy)
    accuracy = (single.accuracy - 0.9 * room, high + 0.6 * room)
    costs = [
        single.cost_usd_per_1k,
        f.equal.figures.cost_usd_per_1k,
        f.best.figures.cost_usd_per_1k,
    ]
    costs += [
        cost
        for curve in f.curves
        for cost, reached in _of(curve)
        if reached >= accuracy[0] and curve.policy != "oracle"
    ]
    # At least a factor of two wide: points a per cent apart are one point.
    low, high = min(costs), max(costs)
    room = max(1.0, (2 * low / high) ** 0.5) if high > 0 else 1.0
    return _Ranges(cost_usd_per_1k=(low / room, high * room), accuracy=accuracy)


def _draw_curve(chart: _Chart, curve: Curve, class_: str) -> None:
    if len(curve.knob) > 1:
        chart.canvas.line(
            [(chart.x(c), chart.y(a)) for c, a in _of(curve)],
            class_,
            avoided=class_ in _PROMINENT,
        )
    radius, shape = (3.0, "circle") if class_ in _PROMINENT else (5.0, "diamond")
    if class_ == "other":
        radius, shape = 2.2, "circle"
    for (cost, accuracy), knob in zip(_of(curve), curve.knob.tolist(), strict=True):
        tip = f"{curve.policy}, V {setting(knob)}: {percent(accuracy)} at ${dollars(cost)} per 1000"
        chart.dot(cost, accuracy, class_, tip, r=radius, shape=shape)


def _draw_picks(chart: _Chart, f: ReportFigures, *, narrow: bool) -> None:
    single = f.verdict.best_single
    name = "best single" if narrow else f"best single: {shortened(f.best_model, 26)}"
    labels = [(single.cost_usd_per_1k, single.accuracy, name)]
    for pick, text in ((f.best, "most accurate"), (f.equal, "as good, cheapest")):
        if not pick.is_the_single:
            cost, accuracy = pick.figures.cost_usd_per_1k, pick.figures.accuracy
            tip = f"{text}: {pick.figures.policy}, {percent(accuracy)} at ${dollars(cost)}"
            chart.dot(cost, accuracy, "pick", tip, r=8)
            labels.append((cost, accuracy, text))
    for cost, accuracy, text in labels:
        chart.label(cost, accuracy, text, "strong", must=True)


def policy_class(policy: str, f: ReportFigures) -> str:
    """The style of a policy, by its part in the story: a class of ``page.css``."""
    if is_composition(policy):
        return "composition"
    if policy == f.best_router:
        return "router"
    if policy == "best-single":
        return "single"
    return policy if policy in BASELINES else "other"


def prominence(policy: str, f: ReportFigures) -> int:
    """What is drawn last lies on top."""
    class_ = policy_class(policy, f)
    return _ORDER.index(class_) if class_ in _ORDER else len(_ORDER)


def _of(curve: Curve) -> Iterable[tuple[float, float]]:
    return zip(curve.cost_usd_per_1k.tolist(), curve.accuracy.tolist(), strict=True)
