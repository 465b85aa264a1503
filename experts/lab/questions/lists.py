"""Sorting short lists and picking from them. Experts repeat the list, then answer."""

from __future__ import annotations

from random import Random

from experts.lab.questions.skill import Draw, LabSkill, lab_skill
from experts.lab.questions.words import word_list

ORDINALS = ("first", "second", "third", "fourth", "last")
POSITIONS = ("1st", "2nd", "3rd", "4th", "last")
_LENGTHS = (3, 3, 4, 4, 5)
_UP = ("ascending", "ascending", "increasing", "rising")
_DOWN = ("descending", "descending", "decreasing", "falling")


def _numbers(rng: Random) -> list[int]:
    top = 99 if rng.random() < 0.5 else 999
    return rng.sample(range(1, top + 1), rng.choice(_LENGTHS))


def _words(rng: Random) -> list[str]:
    return rng.sample(word_list(), rng.choice(_LENGTHS))


def _written(items: list[str], rng: Random) -> str:
    """The list as people type it."""
    dice = rng.random()
    if dice < 0.6:
        return ", ".join(items)
    if dice < 0.85:
        return f"{', '.join(items[:-1])} and {items[-1]}"
    return " ".join(items)


def _draw_sort_numbers(rng: Random) -> Draw:
    numbers = _numbers(rng)
    down = rng.random() < 0.4
    ordered = sorted(numbers, reverse=down)
    slots = {
        "l": _written([str(n) for n in numbers], rng),
        "from": rng.choice(("largest", "biggest", "highest") if down else ("smallest", "lowest")),
        "to": rng.choice(("smallest", "lowest") if down else ("largest", "biggest", "highest")),
        "order": rng.choice(_DOWN if down else _UP),
        "first": rng.choice(("largest", "biggest") if down else ("smallest", "lowest")),
    }
    key = ",".join(map(str, numbers)) + ("down" if down else "up")
    answer = ", ".join(map(str, ordered))
    return Draw(key, slots, answer, f"{', '.join(map(str, numbers))}. Answer: {answer}")


def _draw_sort_words(rng: Random) -> Draw:
    words = _words(rng)
    answer = ", ".join(sorted(words))
    slots = {"l": _written(words, rng)}
    return Draw(",".join(words), slots, answer, f"{', '.join(words)}. Answer: {answer}")


def _draw_pick_position(rng: Random) -> Draw:
    items = _words(rng) if rng.random() < 0.7 else [str(n) for n in _numbers(rng)]
    place = rng.choice([*range(min(len(items), 4)), -1])
    slots = {"l": _written(items, rng), "o": ORDINALS[place], "p": POSITIONS[place]}
    counted = ", ".join(f"{i} {item}" for i, item in enumerate(items, start=1))
    worked = f"{counted}. Answer: {items[place]}"
    return Draw(f"{','.join(items)}@{place}", slots, items[place], worked)


def _draw_pick_extreme(rng: Random) -> Draw:
    numbers = _numbers(rng)
    most = rng.random() < 0.5
    slots = {
        "l": _written([str(n) for n in numbers], rng),
        "e": rng.choice(
            ("largest", "biggest", "highest", "greatest") if most else ("smallest", "lowest")
        ),
        "m": "maximum" if most else "minimum",
    }
    key = ",".join(map(str, numbers)) + slots["m"]
    answer = str(max(numbers) if most else min(numbers))
    return Draw(key, slots, answer, f"{', '.join(map(str, numbers))}. Answer: {answer}")


SKILLS: tuple[LabSkill, ...] = (
    lab_skill("sort_numbers", "lists", _draw_sort_numbers),
    lab_skill("sort_words", "lists", _draw_sort_words),
    lab_skill("pick_position", "lists", _draw_pick_position),
    lab_skill("pick_extreme", "lists", _draw_pick_extreme),
)
