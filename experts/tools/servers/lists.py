"""Lists of texts and numbers: ``python -m experts.tools.servers.lists``. Numbers are exact."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import Field

from experts.tools.servers.serving import run, server

MAX_ITEMS = 10_000
MAX_ITEM_CHARS = 2000
MAX_NUMBER_CHARS = 60

Items = Annotated[list[str], Field(description="The items, as texts", max_length=MAX_ITEMS)]
Numbers = Annotated[
    list[str], Field(description="The numbers, each as text: 3, -2.5, 1/3", max_length=MAX_ITEMS)
]


class BadList(ValueError):
    """What is wrong with a list."""


def sort(
    items: Items,
    by: Annotated[
        Literal["alphabet", "number", "length"], Field(description="What decides the order")
    ] = "alphabet",
    descending: bool = False,
) -> str:
    """Sort a list. Items that are equal keep their order; capitals are sorted as small letters."""
    keys: dict[str, Any] = {"alphabet": str.casefold, "number": number, "length": len}
    return _shown(sorted(_checked(items), key=keys[by], reverse=descending))


def reverse(items: Items) -> str:
    """The list from its end to its beginning."""
    return _shown(_checked(items)[::-1])


def pick(
    items: Items,
    position: Annotated[int, Field(description="1 is the first, -1 the last")],
) -> str:
    """The item at a position, counted from 1, or from the end with negative numbers."""
    n = len(_checked(items))
    if not 1 <= abs(position) <= n:
        raise BadList(f"there is no position {position} in a list of {n}")
    return items[position - 1 if position > 0 else position]


def count(
    items: Items, item: Annotated[str | None, Field(description="Only this one")] = None
) -> str:
    """How often each item is in the list, most frequent first; or one item alone."""
    counts = Counter(_checked(items))
    if item is not None:
        return str(counts[item])
    return _shown([f"{name}: {n}" for name, n in counts.most_common()])


def combine(
    left: Items,
    right: Items,
    how: Annotated[
        Literal["both", "either", "only_left"],
        Field(description="both: in both lists; either: in one of them; only_left: not in right"),
    ],
) -> str:
    """What two lists have in common, have together, or what only the left one has. Each item once,
    in the order of the lists."""
    a, b = dict.fromkeys(_checked(left)), dict.fromkeys(_checked(right))
    made = {
        "both": [x for x in a if x in b],
        "either": [*a, *(x for x in b if x not in a)],
        "only_left": [x for x in a if x not in b],
    }
    return _shown(made[how])


def statistics(
    numbers: Numbers,
    what: Annotated[
        Literal["sum", "mean", "median", "minimum", "maximum", "range", "product"],
        Field(description="Which figure"),
    ],
) -> str:
    """A figure of a list of numbers, exactly: sum, mean, median, minimum, maximum, range or
    product."""
    values = sorted(number(n) for n in _checked(numbers))
    if not values:
        raise BadList("the list is empty")
    half = len(values) // 2
    if what == "product":
        if len(values) > 1000:
            raise BadList("products are of up to 1000 numbers")
        made = Fraction(1)
        for value in values:
            made *= value
    else:
        made = {
            "sum": sum(values, Fraction()),
            "mean": sum(values, Fraction()) / len(values),
            "median": values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2,
            "minimum": values[0],
            "maximum": values[-1],
            "range": values[-1] - values[0],
        }[what]
    return shown_number(made)


def number(text: str) -> Fraction:
    """Exact. Raises BadList for what is no number.

    >>> number("2.50") == number("5/2")
    True
    """
    written = text.strip().replace("−", "-").replace(",", "")
    try:
        if len(written) > MAX_NUMBER_CHARS or "e" in written.lower():
            raise ValueError
        return Fraction(written)
    except (ValueError, ZeroDivisionError):
        raise BadList(f"{text[:80]!r} is no number; write it as 3, -2.5 or 1/3") from None


def shown_number(value: Fraction) -> str:
    """As a decimal where that is exact, else as a fraction.

    >>> shown_number(Fraction(5, 2)), shown_number(Fraction(1, 3))
    ('2.5', '1/3')
    """
    rest, places = value.denominator, 0
    while rest % 10 == 0 or rest % 5 == 0 or rest % 2 == 0:
        rest, places = rest // (10 if rest % 10 == 0 else 5 if rest % 5 == 0 else 2), places + 1
    if rest != 1:
        return str(value)
    scaled = abs(value.numerator) * 10**places // value.denominator
    whole, part = divmod(scaled, 10**places)
    decimals = f"{part:0{places}}".rstrip("0") if places else ""
    sign = "-" if value < 0 else ""
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"


def _checked(items: list[str]) -> list[str]:
    if any(len(item) > MAX_ITEM_CHARS for item in items):
        raise BadList(f"items have up to {MAX_ITEM_CHARS} characters")
    return items


def _shown(items: list[str]) -> str:
    return ", ".join(items) if items else "(nothing)"


def make() -> Any:
    return server(
        "lists", "Sorting, counting, picking and summing of lists.",
        sort, reverse, pick, count, combine, statistics,
    )  # fmt: skip


if __name__ == "__main__":
    run(make())
