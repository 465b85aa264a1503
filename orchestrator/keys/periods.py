"""Periods of budgets: days, weeks and months of the calendar, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from orchestrator.keys.key import Period


def begin_of(period: Period, now: float) -> float:
    """When the period began that ``now`` is in; both in seconds since 1970, as below.

    >>> begin_of("day", 86_400 * 3.5) / 86_400
    3.0
    """
    if period == "total":
        return 0.0
    today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "week":
        today -= timedelta(days=today.weekday())
    if period == "month":
        today = today.replace(day=1)
    return today.timestamp()


def end_of(period: Period, now: float) -> float | None:
    """When the next one begins; None for ``total``."""
    begin = begin_of(period, now)
    if period == "total":
        return None
    if period != "month":
        return begin + 86_400 * (1 if period == "day" else 7)
    somewhere_in_the_next = begin + 86_400 * 31
    return begin_of("month", somewhere_in_the_next)
