"""Dates and times, by dateutil: ``python -m experts.tools.servers.dates``.

There is no clock in it: the same question has the same answer tomorrow. A date that could be read
in two ways (03/04/2025) is refused with both, unless the caller says which comes first.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field

from experts.tools.servers.serving import run, server

MAX_CHARS = 100
MAX_STEP = 4_000_000
_NUMERIC = re.compile(r"(?<!\d)(\d{1,2})[./-](\d{1,2})[./-](\d{4}|\d{2})(?!\d)")
_ISO = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?!\d)")

When = Annotated[str, Field(description="e.g. 2025-03-04, 4 March 2025, or 2025-03-04T17:30")]
Day = Annotated[str, Field(description="A date, e.g. 2025-03-04 or 4 March 2025")]
Order = Annotated[
    Literal["day", "month"] | None,
    Field(description="What comes first in dates like 03/04/2025; needed only for those"),
]
Zone = Annotated[str, Field(description="e.g. Europe/Berlin, America/New_York, UTC")]


class BadDate(ValueError):
    """What is wrong with a date."""


def weekday(day: Day, first: Order = None) -> str:
    """The day of the week of a date."""
    return f"{read(day, first):%A}"


def difference(start: When, end: When, first: Order = None) -> str:
    """The time from one date to another: in days, in weeks, and in years, months and days. Negative
    when the end comes first."""
    from dateutil.relativedelta import relativedelta

    a, b = read(start, first), read(end, first)
    if (a.tzinfo is None) != (b.tzinfo is None):
        raise BadDate("one of them has a time zone and the other has none")
    sign = "-" if b < a else ""
    low, high = min(a, b), max(a, b)
    whole = high - low
    parts = relativedelta(high, low)
    said = ", ".join(
        f"{n} {name}{'' if n == 1 else 's'}"
        for name, n in (("year", parts.years), ("month", parts.months), ("day", parts.days))
        if n
    )
    result = f"{sign}{whole.days} day{'' if whole.days == 1 else 's'}"
    if whole.seconds:
        hours, rest = divmod(whole.seconds, 3600)
        result += f" {hours:02}:{rest // 60:02}:{rest % 60:02}"
    return f"{result} ({sign}{said})" if said and whole.days >= 28 else result


def add(
    day: When,
    years: int = 0,
    months: int = 0,
    weeks: int = 0,
    days: int = 0,
    hours: int = 0,
    minutes: int = 0,
    business_days: Annotated[int, Field(description="Monday to Friday; no holidays known")] = 0,
    first: Order = None,
) -> str:
    """The date so much later (or earlier, with negative numbers). A month after 31 January is the
    last of February."""
    from dateutil.relativedelta import relativedelta

    steps = {"years": years, "months": months, "weeks": weeks, "days": days, "hours": hours,
             "minutes": minutes, "business_days": business_days}  # fmt: skip
    for name, n in steps.items():
        if abs(n) > MAX_STEP:
            raise BadDate(f"{name} may be up to {MAX_STEP}")
    at = read(day, first)
    try:
        later = at + relativedelta(years=years, months=months, weeks=weeks, days=days)
        later += timedelta(hours=hours, minutes=minutes)
        return _shown(_business_days(later, business_days))
    except (OverflowError, ValueError):
        raise BadDate("that is outside of the years 1 to 9999") from None


def parse(text: When, first: Order = None) -> str:
    """A date as it is written, in ISO form (2025-03-04), with what is known of it: weekday, day of
    the year, ISO week, and whether it is a leap year."""
    at = read(text, first)
    year = at.isocalendar()
    is_leap = at.year % 4 == 0 and (at.year % 100 != 0 or at.year % 400 == 0)
    return (
        f"{_shown(at)}, {at:%A}, day {at.timetuple().tm_yday} of the year, week {year.week} of "
        f"{year.year}, {'a leap year' if is_leap else 'no leap year'}"
    )


def change_zone(at: When, source: Zone, target: Zone) -> str:
    """A local time of one time zone as the local time of another. Times that a zone's clock skips
    are refused, and of those that it shows twice that is said."""
    local = read(at, None)
    if local.tzinfo is not None:
        raise BadDate("give the local time without its zone; the zone goes into source")
    start = local.replace(tzinfo=_zone(source))
    if start.astimezone(UTC).astimezone(_zone(source)).replace(tzinfo=None) != local:
        raise BadDate(f"there is no {local:%H:%M} that day in {source}: clocks go forward")
    moved = start.astimezone(_zone(target))
    twice = start.replace(fold=1).utcoffset() != start.utcoffset()
    note = f" (clocks in {source} show {local:%H:%M} twice; this is the first)" if twice else ""
    return f"{moved:%Y-%m-%d %H:%M} {target}{note}"


def read(text: str, first: str | None) -> datetime:
    """Raises BadDate for what is no whole date, or could be two."""
    text = text.strip()
    if not text or len(text) > MAX_CHARS:
        raise BadDate(f"a date has 1 to {MAX_CHARS} characters")
    if not re.search(r"\d", text):
        raise BadDate(f"{text!r} is no date; there is no clock here, so not `today` either")
    if not _ISO.match(text) and (found := _NUMERIC.search(text)):
        a, b = int(found[1]), int(found[2])
        if first is None and a != b and a <= 12 and b <= 12:
            year = found[3]
            raise BadDate(
                f"{text!r} could be {year}-{b:02}-{a:02} or {year}-{a:02}-{b:02}. Say which comes "
                "first, day or month, or write it as year-month-day"
            )
        first = first or ("day" if a > 12 else "month")
        if (first == "day" and b > 12) or (first == "month" and a > 12):
            raise BadDate(f"{text!r} has no such month when the {first} comes first")
    from dateutil import parser

    try:
        # Twice, with other defaults: what is not written must not be made up.
        readings = {
            parser.parse(text, dayfirst=first == "day", default=datetime(*default))
            for default in ((2000, 1, 1), (2004, 2, 2))
        }
    except (ValueError, OverflowError, TypeError, AttributeError) as error:
        raise BadDate(f"{text!r} is no date: {error}") from None
    if len(readings) > 1:
        raise BadDate(f"{text!r} is no whole date: year, month and day are needed")
    return readings.pop()


def _business_days(at: datetime, n: int) -> datetime:
    step = 1 if n > 0 else -1
    weeks, left = divmod(abs(n), 5)
    while at.weekday() >= 5 and n:  # a weekend counts as the Friday before, or the Monday after
        at -= timedelta(days=step)
    at += timedelta(weeks=weeks * step)
    while left:
        at += timedelta(days=step)
        left -= at.weekday() < 5
    return at


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name.strip())
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadDate(f"there is no time zone {name!r}; write it as Europe/Berlin or UTC") from None


def _shown(at: datetime) -> str:
    if (at.hour, at.minute, at.second) == (0, 0, 0) and at.tzinfo is None:
        return date(at.year, at.month, at.day).isoformat()
    return at.isoformat(sep=" ", timespec="minutes" if at.second == 0 else "seconds")


def make() -> Any:
    return server(
        "dates", "Calendar and clock arithmetic. It does not know what day it is.",
        weekday, difference, add, parse, change_zone,
    )  # fmt: skip


if __name__ == "__main__":
    run(make())
