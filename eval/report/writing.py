"""How numbers are written, everywhere in the report: few digits, and the same ones each time.

A number and its unit stay on one line (NBSP is a space that does not break)."""

from __future__ import annotations

import math

from eval.statistics import Interval

NBSP, DASH, MINUS = "\u00a0", "–", "−"


def percent(share: float, *, digits: int = 1) -> str:
    """A share in percent.

    >>> percent(0.7184), percent(float("nan"))
    ('71.8\\xa0%', '–')
    """
    return f"{share * 100:.{digits}f}{NBSP}%" if math.isfinite(share) else DASH


def points(difference: float, *, digits: int = 1) -> str:
    """A difference of shares in percentage points, always with its sign.

    >>> points(0.0351), points(-0.0351), points(0.00001)
    ('+3.5', '−3.5', '0.0')
    """
    if not math.isfinite(difference):
        return DASH
    written = f"{abs(difference) * 100:.{digits}f}"
    if float(written) == 0:
        return written
    return ("+" if difference > 0 else MINUS) + written


def dollars(amount: float) -> str:
    """Dollars with three significant digits.

    >>> dollars(0.04), dollars(12.3456), dollars(1234.5), dollars(9.5e-5), dollars(float("inf"))
    ('0.04', '12.3', '1,234', '0.000095', '∞')
    """
    if math.isinf(amount):
        return "∞"
    if math.isnan(amount):
        return DASH
    if amount and abs(amount) < 1e-4:
        decimals = 1 - math.floor(math.log10(abs(amount)))
        return f"{amount:.{decimals}f}".rstrip("0") if decimals < 11 else f"{amount:.2g}"
    if abs(amount) >= 100:
        return f"{amount:,.0f}"
    return f"{amount:.3g}"


def price(amount: float) -> str:
    """A price of a failure.

    >>> price(0.01), price(float("inf"))
    ('$0.01', 'any price')
    """
    return "any price" if math.isinf(amount) else f"${dollars(amount)}"


def setting(knob: float) -> str:
    """A policy's setting: the price that it plays for; a dash where it has none.

    >>> setting(0.01), setting(float("nan"))
    ('$0.01', '–')
    """
    return DASH if math.isnan(knob) else price(knob)


def percent_range(ci: Interval, *, digits: int = 1) -> str:
    """An interval of shares.

    >>> percent_range((0.694, 0.741))
    '69.4 to 74.1\\xa0%'
    """
    low, high = (f"{v * 100:.{digits}f}" if math.isfinite(v) else DASH for v in ci)
    return f"{low} to {high}{NBSP}%"


def points_range(ci: Interval) -> str:
    """An interval of differences.

    >>> points_range((-0.012, 0.031))
    '−1.2 to +3.1'
    """
    return f"{points(ci[0])} to {points(ci[1])}"


def dollars_range(ci: Interval) -> str:
    """An interval of dollars.

    >>> dollars_range((0.001, 0.0025))
    '0.001 to 0.0025'
    """
    return f"{dollars(ci[0])} to {dollars(ci[1])}"
