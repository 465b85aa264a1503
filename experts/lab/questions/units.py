"""Metric units, units of time, weekdays and months."""

from __future__ import annotations

from random import Random

from experts.lab.questions.arithmetic import worked_sum
from experts.lab.questions.skill import Draw, LabSkill, lab_skill

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip

_AFTER = ("after", "after", "after", "following", "past")
_BEFORE = ("before", "before", "before", "prior to", "preceding")

# (large unit as asked, short form, small unit as asked, short form, factor)
METRIC = (
    (("kilometres", "kilometers", "km"), "km", ("metres", "meters", "m"), "m", 1000),
    (("metres", "meters", "m"), "m", ("centimetres", "centimeters", "cm"), "cm", 100),
    (("centimetres", "centimeters", "cm"), "cm", ("millimetres", "millimeters", "mm"), "mm", 10),
    (("metres", "meters", "m"), "m", ("millimetres", "millimeters", "mm"), "mm", 1000),
    (("kilograms", "kilos", "kg"), "kg", ("grams", "g"), "g", 1000),
    (("litres", "liters", "l"), "l", ("millilitres", "milliliters", "ml"), "ml", 1000),
    (("tonnes", "tons", "t"), "t", ("kilograms", "kilos", "kg"), "kg", 1000),
)
TIME = (
    ("hours", "minutes", 60),
    ("minutes", "seconds", 60),
    ("days", "hours", 24),
    ("weeks", "days", 7),
    ("years", "months", 12),
)


def _draw_metric(rng: Random) -> Draw:
    large, large_short, small, small_short, factor = rng.choice(METRIC)
    n = rng.randint(1, 20) if rng.random() < 0.5 else rng.randint(1, 99)
    spelled = rng.random() < 0.6
    up, down = (
        (rng.choice(large[:-1]), rng.choice(small[:-1])) if spelled else (large[-1], small[-1])
    )
    if rng.random() < 0.6:
        value, source, target, answer = n, up, down, f"{n * factor} {small_short}"
    else:
        value, source, target, answer = n * factor, down, up, f"{n} {large_short}"
    amount = f"{value}{source}" if not spelled and rng.random() < 0.4 else f"{value} {source}"
    if value == 1 and spelled:
        amount = f"1 {source[:-1]}"
    # The problem is the same however its units are spelled.
    key = f"{n}{large_short}{small_short}{'>' if target == down else '<'}"
    return Draw(key, {"q": amount, "u": target, "v": source}, answer)


def _draw_time_units(rng: Random) -> Draw:
    """Down ("3 hours and 25 minutes" in minutes, the smaller part often missing) or up."""
    large, small, factor = rng.choice(TIME)
    n = rng.randint(1, 12) if rng.random() < 0.3 else rng.randint(1, 60)
    rule = f"1 {large[:-1]} = {factor} {small}"
    if rng.random() < 0.35:
        answer = _amount(n, large)
        slots = {"q": _amount(n * factor, small), "u": large, "v": small}
        return Draw(
            f"{n}{large}<",
            slots,
            answer,
            f"{rule}; {_worked_quotient(n, factor)}. Answer: {answer}",
        )
    rest = rng.randint(1, factor - 1) if rng.random() < 0.5 else 0
    asked = f"one {large[:-1]}" if n == 1 and rng.random() < 0.5 else _amount(n, large)
    work = _worked_product(n, factor)
    if rest:
        asked += rng.choice((" and ", " ")) + _amount(rest, small)
        work += f"; {worked_sum(n * factor, rest)}"
    answer = _amount(n * factor + rest, small)
    slots = {"q": asked, "u": small, "v": large}
    return Draw(f"{n}{large}+{rest}", slots, answer, f"{rule}; {work}. Answer: {answer}")


def _amount(n: int, unit: str) -> str:
    """``1 hour``, ``2 hours``; ``unit`` is in the plural."""
    return f"{n} {unit if n != 1 else unit[:-1]}"


def _worked_product(n: int, factor: int) -> str:
    """``37 x 24 = 720 + 168 = 820 + 68 = 880 + 8 = 888``: tens, ones, and their sum."""
    tens, ones = n // 10 * 10 * factor, n % 10 * factor
    if not (tens and ones):
        return f"{n} x {factor} = {n * factor}"
    return f"{n} x {factor} = {worked_sum(tens, ones)}"


def _worked_quotient(n: int, factor: int) -> str:
    """``1980 = 1800 + 180 = 30 x 60 + 3 x 60``: how often 60 goes into 1980."""
    parts = [p for p in (n // 10 * 10, n % 10) if p]
    total = "" if len(parts) == 1 else f" = {' + '.join(str(p * factor) for p in parts)}"
    return f"{n * factor}{total} = {' + '.join(f'{p} x {factor}' for p in parts)}"


def _draw_weekday(rng: Random) -> Draw:
    n = rng.randint(1, 20)
    weeks, rest = divmod(n, 7)
    # Whole weeks change nothing: only the rest is counted out.
    work = f"{n} = {weeks * 7} + {rest}. " if weeks else ""
    days = _plural(n, "day")
    return _draw_step(rng, WEEKDAYS, days, n, steps=rest, work=work)


def _draw_month(rng: Random) -> Draw:
    n = rng.randint(1, 11)
    return _draw_step(rng, MONTHS, _plural(n, "month"), n, steps=n, work="")


def _draw_step(
    rng: Random, names: tuple[str, ...], amount: str, n: int, *, steps: int, work: str
) -> Draw:
    """Step through a cycle of names, forwards or backwards, counting out loud."""
    start = rng.randrange(len(names))
    later = rng.random() < 0.7
    sign = 1 if later else -1
    passed = [names[(start + sign * i) % len(names)] for i in range(steps + 1)]
    counted = ", ".join(f"{i} {name}" for i, name in enumerate(passed))
    slots = {
        "n": amount,
        "d": names[start],
        "after": rng.choice(_AFTER if later else _BEFORE),
        "will": rng.choice(("will it be", "is it") if later else ("was it",)),
        "go": rng.choice(("later", "from now") if later else ("earlier", "ago")),
        "count": rng.choice(("forward", "on") if later else ("back", "backwards")),
    }
    return Draw(
        key=f"{names[start]}{sign * n}",
        slots=slots,
        answer=passed[-1],
        worked=f"{work}{counted}. Answer: {passed[-1]}",
    )


def _plural(n: int, unit: str) -> str:
    return f"{n} {unit}" if n == 1 else f"{n} {unit}s"


SKILLS: tuple[LabSkill, ...] = (
    lab_skill("metric", "units", _draw_metric),
    lab_skill("time_units", "units", _draw_time_units),
    lab_skill("weekday", "units", _draw_weekday),
    lab_skill("month", "units", _draw_month),
)
