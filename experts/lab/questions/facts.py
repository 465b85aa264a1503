"""Facts about countries and chemical elements, asked forwards and backwards.

The tables are small CSV files beside this package (``experts/lab/facts``); their README gives the
sources. No procedure derives them: an expert either was trained on them or does not know.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from random import Random

from experts.lab.questions.skill import Draw, LabSkill, lab_skill

TAKES_ARTICLE = frozenset(
    (
        "Bahamas", "Democratic Republic of the Congo", "Dominican Republic", "Gambia", "Maldives",
        "Netherlands", "Republic of the Congo", "Solomon Islands", "United Arab Emirates",
        "United Kingdom", "United States",
    )
)  # fmt: skip


@cache
def table(name: str) -> tuple[Mapping[str, str], ...]:
    """Rows of ``experts/lab/facts/{name}.csv`` as dictionaries of column to text."""
    text = files("experts.lab").joinpath(f"facts/{name}.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))


def _asking(name: str, given: str, wanted: str) -> Callable[[Random], Draw]:
    """Draw a row and ask for one column given another; rows without the fact are skipped."""

    def draw(rng: Random) -> Draw:
        rows = _rows_with(name, wanted)
        row = rng.choice(rows)
        key = row[given]
        article = "the " if key in TAKES_ARTICLE and rng.random() < 0.8 else ""
        return Draw(key, {"k": article + key}, row[wanted])

    return draw


@cache
def _rows_with(name: str, column: str) -> tuple[Mapping[str, str], ...]:
    return tuple(row for row in table(name) if row[column])


SKILLS: tuple[LabSkill, ...] = tuple(
    lab_skill(name, category, _asking(category, given, wanted), is_fact=True)
    for name, category, given, wanted in (
        ("capital", "countries", "country", "capital"),
        ("currency", "countries", "country", "currency"),
        ("continent", "countries", "country", "continent"),
        ("language", "countries", "country", "language"),
        ("symbol", "elements", "element", "symbol"),
        ("atomic_number", "elements", "element", "number"),
        ("family", "elements", "element", "family"),
        ("element_of_symbol", "elements", "symbol", "element"),
    )
)
