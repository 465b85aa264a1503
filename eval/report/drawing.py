"""Drawing: scales, ticks, and a canvas that becomes one self-contained SVG element.

A hundred lines instead of a plotting library: the marks keep their classes, so that one style sheet
serves light and dark, and every mark says its value in a ``<title>``, which works without script.
Colours are the page's business.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from eval.report.markup import Html, element, joined

CHARACTER_PX = 6.6
"""Width of a character of a label, on average and on the safe side."""
_FEWEST = 3
Writer = Callable[[Sequence[float]], Sequence[str]]
"""Writes the ticks of an axis, all with as many digits as they need."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """From values to pixels. A logarithmic one takes positive values only."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / ((high - low) or 1.0) * (self.end - self.start)

    def ticks(self, n: int) -> list[float]:
        """About ``n`` round values within the scale."""
        return _log_ticks(self.low, self.high, n) if self.log else _ticks(self.low, self.high, n)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


def _ticks(low: float, high: float, n: int) -> list[float]:
    span = high - low
    if not span > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / n))
    step = next(s * power for s in (1, 2, 2.5, 5, 10, 20) if span / (s * power) <= n)
    first = math.ceil(low / step - 1e-9)
    return [step * i for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float, n: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for parts in ((1, 2, 5), (1, 3), (1,)):
        ticks = [p * 10.0**d for d in decades for p in parts]
        ticks = [t for t in ticks if low * (1 - 1e-9) <= t <= high * (1 + 1e-9)]
        if len(ticks) <= n:
            break
    if len(ticks) < _FEWEST:  # less than a decade: round values as on a linear scale
        return _ticks(low, high, n)
    return ticks[:: max(1, math.ceil(len(ticks) / n))]


class Canvas:
    """A plot area with margins; add marks, then ask for the element."""

    def __init__(
        self,
        width: float,
        height: float,
        *,
        left: float,
        right: float = 18,
        top: float = 30,
        bottom: float = 44,
    ) -> None:
        self.width, self.height = width, height
        self.left, self.right, self.top, self.bottom = left, width - right, top, height - bottom
        self._behind: list[Html] = []
        self._marks: list[Html] = []
        self._text: list[Html] = []
        self._taken: list[tuple[float, float, float, float]] = []

    def x(self, low: float, high: float, *, log: bool = False) -> Scale:
        return Scale(low=low, high=high, start=self.left, end=self.right, log=log)

    def y(self, low: float, high: float) -> Scale:
        return Scale(low=low, high=high, start=self.bottom, end=self.top)

    def x_axis(self, scale: Scale, label: str, write: Writer, *, n: int) -> None:
        ticks = scale.ticks(n)
        for value, told in zip(ticks, write(ticks), strict=True):
            at = scale(value)
            self.rule(at, self.top, at, self.bottom, "grid")
            self._text.append(element("text", told, x=at, y=self.bottom + 16, class_="tick mid"))
        middle = (self.left + self.right) / 2
        self._text.append(element("text", label, x=middle, y=self.bottom + 36, class_="axis mid"))

    def y_axis(self, scale: Scale, label: str, write: Writer, *, n: int = 6) -> None:
        ticks = scale.ticks(n)
        for value, told in zip(ticks, write(ticks), strict=True):
            at = scale(value)
            self.rule(self.left, at, self.right, at, "grid")
            self._text.append(element("text", told, x=self.left - 7, y=at + 4, class_="tick end"))
        # Above the axis, where it can be read without turning one's head.
        self._text.append(element("text", label, x=4, y=self.top - 14, class_="axis"))

    def rule(self, x1: float, y1: float, x2: float, y2: float, class_: str) -> None:
        """A straight line that is no mark: grid, diagonal, reference."""
        self._behind.append(
            element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)
        )

    def line(
        self, points: Iterable[tuple[float, float]], class_: str, *, avoided: bool = False
    ) -> None:
        """A line through points; labels stay off it where it is to be ``avoided``."""
        points = list(points)
        if avoided:
            self._taken += [
                (x - 2, y - 2, x + 2, y + 2)
                for a, b in itertools.pairwise(points)
                for x, y in _between(a, b)
            ]
        written = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._marks.append(element("polyline", points=written, class_=f"line {class_}"))

    def band(self, points: Iterable[tuple[float, float]], class_: str) -> None:
        """A filled area, behind the marks."""
        written = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._behind.append(element("polygon", points=written, class_=f"band {class_}"))

    def whisker(self, x1: float, y1: float, x2: float, y2: float, class_: str) -> None:
        self._marks.append(
            element(
                "line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2),
                class_=f"whisker {class_}",
            )
        )  # fmt: skip

    def dot(
        self, x: float, y: float, class_: str, tip: str, *, r: float = 3.5, shape: str = "circle"
    ) -> None:
        """A mark with its value; shapes: circle, diamond, square."""
        title = element("title", tip)
        if shape == "circle":
            mark = element("circle", title, cx=float(x), cy=float(y), r=r, class_=f"mark {class_}")
        else:
            far = r * 1.35 if shape == "diamond" else r
            corners = (
                [(0, -far), (far, 0), (0, far), (-far, 0)]
                if shape == "diamond"
                else [(-far, -far), (far, -far), (far, far), (-far, far)]
            )
            written = " ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in corners)
            mark = element("polygon", title, points=written, class_=f"mark {class_}")
        self._marks.append(mark)
        self._taken.append((x - r, y - r, x + r, y + r))

    def text(self, x: float, y: float, text: str, class_: str) -> None:
        self._text.append(element("text", text, x=float(x), y=float(y), class_=class_))

    def label(self, x: float, y: float, text: str, class_: str, *, must: bool = False) -> None:
        """Text beside a mark where there is room for it; nowhere if there is none, unless it
        ``must``. Earlier labels have the better places."""
        wide = len(text) * CHARACTER_PX
        places = [
            (x + 8, y + 4), (x - 8 - wide, y + 4), (x + 6, y - 8), (x - 6 - wide, y - 8),
            (x - wide / 2, y - 11), (x - wide / 2, y + 19), (x + 6, y + 17),
            (x - 6 - wide, y + 17), (x - wide / 2, y - 26), (x - wide / 2, y + 34),
            (x + 12, y + 36), (x + 12, y - 28),
        ]  # fmt: skip
        inside = [
            (px, py)
            for px, py in places
            if px >= self.left
            and px + wide <= self.width - 2
            and self.top + 8 <= py <= self.bottom - 2
        ] or places[:1]
        boxes = [(px, py - 11, px + wide, py + 3) for px, py in inside]
        # What is covered, by area: another label is worse to hit than a dot or a line.
        covered = [sum(_overlap(box, other) for other in self._taken) for box in boxes]
        least = min(range(len(boxes)), key=covered.__getitem__)
        if covered[least] > 0 and not must:
            return
        self._taken.append(boxes[least])
        at_x, at_y = inside[least]
        self._text.append(element("text", text, x=at_x, y=at_y, class_=f"label {class_}"))

    def inside(self, x: float, y: float) -> bool:
        return self.left - 1 <= x <= self.right + 1 and self.top - 1 <= y <= self.bottom + 1

    def element(self, label: str) -> Html:
        """The drawing; ``label`` is what is said instead of it to who cannot see."""
        # A nested svg cuts off what leaves the plot area, without an id that could clash.
        w, h = self.right - self.left, self.bottom - self.top
        edge = 7.0
        plot = element(
            "svg",
            *self._marks,
            x=self.left - edge,
            y=self.top - edge,
            width=w + 2 * edge,
            height=h + 2 * edge,
            viewBox=f"{self.left - edge:g} {self.top - edge:g} {w + 2 * edge:g} {h + 2 * edge:g}",
        )
        return element(
            "svg",
            joined(*self._behind),
            plot,
            joined(*self._text),
            viewBox=f"0 0 {self.width:g} {self.height:g}",
            role="img",
            aria_label=label,
        )


def shortened(text: str, n: int) -> str:
    """At most n characters, the middle left out: beginnings and endings of names differ.

    >>> shortened("Meta-Llama-3_1-70B-Instruct", 15)
    'Meta-Ll…nstruct'
    """
    if len(text) <= n:
        return text
    head = (n - 1) // 2
    return f"{text[:head]}…{text[len(text) - (n - 1 - head) :]}"


def padded(values: Sequence[float], share: float = 0.06) -> tuple[float, float]:
    """Lowest and highest value with some room; never an empty range."""
    low, high = min(values), max(values)
    room = (high - low) * share or max(abs(high), 1.0) * 0.05
    return low - room, high + room


def _between(a: tuple[float, float], b: tuple[float, float]) -> list[tuple[float, float]]:
    """Places on the way from one point to another, a few pixels apart."""
    n = max(1, int(math.dist(a, b) / 6))
    return [(a[0] + (b[0] - a[0]) * i / n, a[1] + (b[1] - a[1]) * i / n) for i in range(n + 1)]


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Area that two boxes share."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return wide * high if wide > 0 and high > 0 else 0.0
