"""The map as one SVG file, which every browser shows and which loads nothing.

A square's colour is the chance to be right, on a scale whose lightness alone tells it (dark to
light, cividis), so that it can be read without colours; its size is how sure that is: it fills its
place when the interval has no width. Hatched is what nobody was asked. The numbers stand beside.
"""

from __future__ import annotations

from itertools import pairwise

from eval.report.drawing import CHARACTER_PX, shortened
from eval.report.markup import Html, element, joined
from eval.skills.skill_map import NOBODY_ASKED, SkillMap

_PLACE, _ROW, _EDGE = 26.0, 34.0, 14.0
_NUMBERS = 46.0
_NAME_CHARS = 22
_LEAST_WIDTH = 520.0
"""What the legend takes."""
_INK, _SOFT, _RULE, _PAPER = "#1d2126", "#57606b", "#d9d6ce", "#ffffff"
_RAMP = ((0, 32, 76), (66, 77, 108), (124, 123, 120), (187, 173, 108), (255, 233, 69))
"""Cividis (Nuñez et al. 2018, arXiv:1712.01662) at 0, 1/4, 1/2, 3/4, 1, rounded."""
_LEGEND = 54.0


def colour_of(p: float) -> str:
    """Of a chance in [0, 1]; lightness rises with it.

    >>> colour_of(0.0), colour_of(1.0)
    ('#00204c', '#ffe945')
    """
    at = min(max(p, 0.0), 1.0) * (len(_RAMP) - 1)
    i = min(int(at), len(_RAMP) - 2)
    share = at - i
    rgb = (round(a + (b - a) * share) for a, b in zip(*list(pairwise(_RAMP))[i], strict=True))
    return "#" + "".join(f"{v:02x}" for v in rgb)


def side_share(low: float, high: float) -> float:
    """Side of a square in its place: all of it when the interval has no width, a fifth at least.

    >>> side_share(0.9, 0.9), side_share(0.0, 1.0)
    (1.0, 0.2)
    """
    return max(0.2, 1.0 - (high - low))


def heat_map(m: SkillMap) -> Html:
    """Experts across, skills or categories down, the scale beneath. No style sheet, no script: the
    element is the whole file, and every number in it is text."""
    names = [shortened(row, _NAME_CHARS) for row in m.rows]
    heads = [shortened(name, _NAME_CHARS) for name in m.experts]
    left = _EDGE + max(len(n) for n in names) * CHARACTER_PX + 12
    wide = max(_PLACE + _NUMBERS + 8, max(len(h) for h in heads) * CHARACTER_PX + 12)
    right, top = left + wide * len(heads), _EDGE + 40
    bottom = top + _ROW * len(names)
    width, height = max(right + _EDGE, _LEAST_WIDTH), bottom + _LEGEND + _EDGE
    best = ", ".join(f"{row}: {m.experts[int(m.best[i])]}" for i, row in enumerate(m.rows))
    rows = [
        joined(
            _line(_EDGE, top + i * _ROW, right, top + i * _ROW, _RULE),
            _text(left - 12, top + i * _ROW + _ROW / 2 + 4, name, anchor="end"),
            *(_cell(m, i, j, left + j * wide, top + i * _ROW) for j in range(len(heads))),
        )
        for i, name in enumerate(names)
    ]
    return element(
        "svg",
        element("title", f"Chance to be right by expert and {m.by}. Best at {best}."),
        _box(0, 0, width, height, fill=_PAPER),
        _text(_EDGE, _EDGE + 10, "Who is good at what: chance to be right", bold=True),
        *(_text(left + j * wide, top - 8, head, bold=True) for j, head in enumerate(heads)),
        *rows,
        _scale(left, bottom + 22),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
        role="img",
        font_family="system-ui, sans-serif",
    )


def _cell(m: SkillMap, i: int, j: int, x: float, y: float) -> Html:
    mean, low, high = (float(v[i, j]) for v in (m.mean, m.low, m.high))
    is_best = int(m.best[i]) == j
    top, side = y + (_ROW - _PLACE) / 2, _PLACE * side_share(low, high)
    inset = (_PLACE - side) / 2
    tip = (
        f"{m.experts[j]} at {m.rows[i]}: {mean:.0%}, {low:.0%} to {high:.0%}, "
        f"{m.n[i, j]:.4g} observations"
    )
    frame, at = _PLACE + 5, x + _PLACE + 6
    return joined(
        _box(x, top, _PLACE, _PLACE, stroke=_RULE),
        _box(x + inset, top + inset, side, side, fill=colour_of(mean), tip=tip),
        _box(x - 2.5, top - 2.5, frame, frame, stroke=_INK) if is_best else None,
        _hatching(x, top) if m.n[i, j] < NOBODY_ASKED else None,
        _text(at, y + 15, f"{mean * 100:.0f}%", bold=is_best),
        _text(at, y + 27, f"{low * 100:.0f}-{high * 100:.0f}", fill=_SOFT, size=9.5),
    )


def _hatching(x: float, y: float) -> Html:
    """Of one place, by its upper left corner."""
    rising = (_line(x, y + far, x + far, y, _SOFT) for far in (_PLACE * k for k in (0.35, 0.7, 1)))
    start, end = _PLACE * 0.4, _PLACE
    return joined(*rising, _line(x + start, y + end, x + end, y + start, _SOFT))


def _scale(x: float, y: float) -> Html:
    steps = [
        joined(
            _box(x + 44 * k, y, 16, 16, fill=colour_of(k / 4)),
            _text(x + 44 * k + 20, y + 12, f"{k / 4:.0%}", fill=_SOFT, size=9.5),
        )
        for k in range(5)
    ]
    told = "small: unsure; framed: best; hatched: never asked"
    return joined(*steps, _text(x, y + 34, told, fill=_SOFT, size=9.5))


# The report's charts take their looks from its style sheet; a file that stands alone has none.


def _box(
    x: float,
    y: float,
    width: float,
    height: float,
    *,
    fill: str = "none",
    stroke: str | None = None,
    tip: str | None = None,
) -> Html:
    title = element("title", tip) if tip else None
    return element(
        "rect", title, x=x, y=y, width=width, height=height, fill=fill, stroke=stroke
    )  # fmt: skip


def _line(x1: float, y1: float, x2: float, y2: float, stroke: str) -> Html:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=stroke)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    fill: str = _INK,
    size: float = 11,
    bold: bool = False,
    anchor: str | None = None,
) -> Html:
    weight = "bold" if bold else None
    return element(
        "text", text, x=x, y=y, fill=fill, font_size=size, font_weight=weight, text_anchor=anchor
    )
