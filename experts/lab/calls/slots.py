"""Values of arguments: as a question shows them, and as a call writes them in JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from random import Random
from typing import Any

from experts.lab.questions.units import MONTHS
from experts.lab.questions.words import LETTERS, any_word

UNITS = (
    ("kilometres", "metres", "centimetres", "millimetres", "miles", "feet", "inches", "yards"),
    ("kilometers", "meters", "centimeters", "millimeters", "mile", "foot", "inch", "yard"),
    ("km", "m", "cm", "mm", "mi", "ft"),
    ("kilograms", "grams", "tonnes", "pounds", "ounces", "stones", "kg", "g", "lb", "oz"),
    ("litres", "millilitres", "gallons", "pints", "cups", "liters", "milliliters", "l", "ml"),
    ("hours", "minutes", "seconds", "days", "weeks", "years", "milliseconds"),
    ("celsius", "fahrenheit", "kelvin"),
    ("joules", "calories", "kilojoules", "watts", "kilowatts", "volts", "pascals", "bar"),
)
CITIES = (
    "Paris", "Rome", "Oslo", "Lima", "Cairo", "Tokyo", "Vienna", "Berlin", "Madrid", "Lagos",
    "Quito", "Seoul", "Hanoi", "Delhi", "Athens", "Dublin", "Boston", "Denver", "Geneva", "Turin",
)  # fmt: skip
LANGUAGES = ("French", "German", "Spanish", "Italian", "Polish", "Greek", "Turkish", "Dutch")
CURRENCIES = ("dollars", "euros", "pounds", "francs", "yen", "crowns", "pesos", "rupees")
_PREFIXES = ("h", "c", "C", "ch", "CH", "X", "S", "R", "A", "link", "ch_", "id-", "h-", "Z", "q")

Shown = tuple[str, Any]
"""(as the question writes it, as JSON has it)"""


def draw_slots(names: tuple[str, ...], rng: Random) -> Mapping[str, Shown]:
    """A value for each slot of a kind of tool; those that belong together are drawn together."""
    drawn: dict[str, Shown] = {}
    if "v" in names:
        source, target = rng.sample(rng.choice(UNITS), 2)
        amount = f"{_number(rng)[0]} {source}"
        drawn |= {"u": (source, source), "v": (target, target), "x": (amount, amount)}
    if "j" in names or "o" in names:
        for pair, words in (("gj", CITIES), ("mo", CURRENCIES)):
            drawn |= {s: (w, w) for s, w in zip(pair, rng.sample(words, 2), strict=True)}
    return drawn | {name: DRAWS[name](rng) for name in names if name not in drawn}


def handle(rng: Random) -> str:
    """Half of the time as our own store names arrays, else as others might."""
    number = rng.randint(1, 9) if rng.random() < 0.4 else rng.randint(10, 999)
    if rng.random() < 0.5:
        return f"H{number}"
    if rng.random() < 0.8:
        return f"{rng.choice(_PREFIXES)}{number}"
    return "".join(rng.choice("0123456789abcdef") for _ in range(rng.randint(3, 6)))


def expression(rng: Random) -> str:
    a, b, c = (rng.randint(1, 99 if rng.random() < 0.5 else 999) for _ in range(3))
    first, second = rng.choice("+-*/"), rng.choice("+-*/")
    dice = rng.random()
    if dice < 0.5:
        return f"{a} {first} {b}"
    if dice < 0.6:
        return f"{a}{first}{b}"
    if dice < 0.7:
        return f"{rng.randint(2, 20)} ** {rng.randint(2, 5)}"
    if dice < 0.8:
        return f"({a} {first} {b}) {second} {c}"
    if dice < 0.9:
        return f"{a} {first} ({b} {second} {c})"
    return f"{a} {first} {b} {second} {c}"


def _number(rng: Random) -> Shown:
    value: float = rng.randint(1, 20) if rng.random() < 0.4 else rng.randint(1, 2000)
    if rng.random() < 0.25:
        value = round(value + rng.randint(1, 99) / 100, 2)
    return str(value), value


def _whole(rng: Random) -> Shown:
    value = rng.randint(1, 99) if rng.random() < 0.6 else rng.randint(1, 9999)
    return str(value), value


def _place(rng: Random) -> Shown:
    value = rng.randint(1, 6)
    return str(value), value


def _date(rng: Random) -> Shown:
    day = date(1990, 1, 1) + timedelta(days=rng.randrange(20_000))
    if rng.random() < 0.7:
        return day.isoformat(), day.isoformat()
    written = f"{day.day} {MONTHS[day.month - 1]} {day.year}"
    return written, written


def _list(rng: Random) -> Shown:
    n = rng.randint(2, 6)
    if rng.random() < 0.5:
        numbers = [rng.randint(1, 99 if rng.random() < 0.5 else 999) for _ in range(n)]
        return ", ".join(map(str, numbers)), numbers
    words = [any_word(rng) for _ in range(n)]
    return ", ".join(words), words


def _equation(rng: Random) -> Shown:
    a, b, c = (rng.randint(1, 30) for _ in range(3))
    written = rng.choice(
        (f"{a}*x + {b} = {c}", f"x**2 - {a} = {b}", f"{a}x - {b} = {c}", f"x/{a} + {b} = {c}")
    )
    return written, written


def _polynomial(rng: Random) -> Shown:
    a, b, c = (rng.randint(2, 30) for _ in range(3))
    written = rng.choice(
        (f"{a}*x + {b}*x - {c}", f"(x + {a})*(x - {b})", f"{a}*a + {b}*b - {c}*a", f"x*x + {a}*x")
    )
    return written, written


def _same(draw: Callable[[Random], str]) -> Callable[[Random], Shown]:
    def both(rng: Random) -> Shown:
        value = draw(rng)
        return value, value

    return both


def _text(rng: Random) -> Shown:
    value = " ".join(any_word(rng) for _ in range(rng.choice((1, 1, 1, 2, 3))))
    return (f'"{value}"' if " " in value or rng.random() < 0.3 else value), value


DRAWS: Mapping[str, Callable[[Random], Shown]] = {
    "c": _same(handle),
    "d": _date,
    "e": _same(expression),
    "f": _date,
    "g": _same(lambda rng: rng.choice(CITIES)),
    "i": _place,
    "k": _whole,
    "l": _list,
    "n": _number,
    "p": _polynomial,
    "q": _equation,
    "w": _text,
    "y": _same(lambda rng: rng.choice(LANGUAGES)),
    "z": _same(lambda rng: rng.choice(LETTERS)),
}
