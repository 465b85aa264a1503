"""How the ticks of an axis are written: all with as many digits as they need to differ."""

from __future__ import annotations

from collections.abc import Sequence

from eval.report.writing import dollars, percent, points, price


def percent_ticks(ticks: Sequence[float]) -> list[str]:
    return [percent(t, digits=_digits(ticks)) for t in ticks]


def point_ticks(ticks: Sequence[float]) -> list[str]:
    return [points(t, digits=_digits(ticks)) for t in ticks]


def dollar_ticks(ticks: Sequence[float]) -> list[str]:
    return [dollars(t) for t in ticks]


def price_ticks(ticks: Sequence[float]) -> list[str]:
    return [price(t) for t in ticks]


def _digits(shares: Sequence[float]) -> int:
    """Decimals that percentages of these shares need."""
    return next(
        (d for d in (0, 1) if all(abs(round(s * 100, d) - s * 100) < 1e-6 for s in shares)), 2
    )
