"""How figures stand in the tables of commands: shares, dollars and differences, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.table import Table

    from eval.statistics import Estimate, Interval


class Achieved(Protocol):
    """What a policy is right on, and what it costs."""

    @property
    def accuracy(self) -> float: ...
    @property
    def accuracy_ci(self) -> Interval: ...
    @property
    def cost_usd_per_1k(self) -> float: ...
    @property
    def cost_of_pass_usd(self) -> float: ...
    @property
    def cost_of_pass_ci(self) -> Interval: ...


def percent(share: float, *, digits: int = 1) -> str:
    """A share in percent.

    >>> percent(0.7184), percent(float("nan"))
    ('71.8%', '-')
    """
    return "-" if math.isnan(share) else f"{share:.{digits}%}"


def percent_range(ci: Interval, *, digits: int = 1) -> str:
    """An interval of shares.

    >>> percent_range((0.694, 0.741))
    '69.4-74.1%'
    """
    return f"{ci[0] * 100:.{digits}f}-{ci[1]:.{digits}%}"


def percent_with_range(share: float, ci: Interval, *, digits: int = 1) -> str:
    """A share and, dim, its interval, in percent without the sign: a cell of many.

    >>> percent_with_range(0.718, (0.694, 0.741))
    '71.8 [dim]69.4-74.1[/dim]'
    """
    low, high = (f"{x * 100:.{digits}f}" for x in ci)
    return f"{share * 100:.{digits}f} [dim]{low}-{high}[/dim]"


def usd(amount: float) -> str:
    """Dollars with three significant digits; what is never right costs infinitely much.

    >>> usd(0.01234), usd(float("inf")), usd(float("nan"))
    ('0.0123', 'none', '-')
    """
    return "-" if math.isnan(amount) else "none" if math.isinf(amount) else f"{amount:.3g}"


def usd_range(ci: Interval, *, scale: float = 1.0) -> str:
    """An interval of dollars, each ``scale`` times.

    >>> usd_range((0.001, 0.0025), scale=1000), usd_range((float("inf"), float("inf")))
    ('1-2.5', 'none')
    """
    low, high = (usd(end * scale) for end in ci)
    return low if low == high == "none" else f"{low}-{high}"


def points(difference: float, ci: Interval, *, unit: str = "") -> str:
    """A difference of shares, in points.

    >>> points(0.039, (0.021, 0.057))
    '+3.9 [+2.1, +5.7]'
    """
    low, high = (f"{x * 100:+.1f}" for x in ci)
    return f"{difference * 100:+.1f}{unit} [{low}, {high}]"


def usd_gained(gain: Estimate) -> str:
    """Dollars a question, told for 1000 questions.

    >>> from eval.statistics import Estimate
    >>> usd_gained(Estimate(value=3.7e-5, ci=(-1.7e-5, 6.1e-5)))
    '+0.037 [-0.017, +0.061]'
    """
    low, high = (f"{1000 * x:+.3g}" for x in gain.ci)
    return f"{1000 * gain.value:+.3g} [{low}, {high}]"


ACHIEVED = ("right", "95 %", "$/1k", "$/1k right", "95 %")


def achieved(f: Achieved) -> tuple[str, ...]:
    """Cells under ``ACHIEVED``."""
    return (
        percent(f.accuracy),
        percent_range(f.accuracy_ci),
        usd(f.cost_usd_per_1k),
        usd(f.cost_of_pass_usd * 1000),
        usd_range(f.cost_of_pass_ci, scale=1000),
    )


def figures_table(
    names: Sequence[str], figures: Sequence[str], *, title: str | None, caption: str | None = None
) -> Table:
    """Columns of names on the left, of figures on the right; rows are to be added."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, caption=caption, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in names:
        table.add_column(name)
    for name in figures:
        table.add_column(name, justify="right")
    return table
