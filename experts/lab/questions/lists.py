"""Sorting short lists and picking from them."""

from __future__ import annotations

from random import Random

from experts.lab.questions.skill import Draw, LabSkill, lab_skill
from experts.lab.questions.words import word_list

ORDINALS = ("first", "second", "third", "fourth", "last")
POSITIONS = ("1st", "2nd", "3rd", "4th", "last")


def _numbers(rng: Random) -> list[int]:
    top = 99 if rng.random() < 0.5 else 999
    return rng.sample(range(1, top + 1), rng.randint(3, 5))


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
        "order": "descending" if down else "ascending",
        "first": rng.choice(("largest", "biggest") if down else ("smallest", "lowest")),
    }
    key = ",".join(map(str, numbers)) + slots["order"]
    return Draw(key, slots, ", ".join(map(str, ordered)))


def _draw_sort_words(rng: Random) -> Draw:
    words = rng.sample(word_list(), rng.randint(3, 5))
    return Draw(",".join(words), {"l": _written(words, rng)}, ", ".join(sorted(words)))


def _draw_pick_position(rng: Random) -> Draw:
    if rng.random() < 0.7:
        items = rng.sample(word_list(), rng.randint(3, 5))
    else:
        items = [str(n) for n in _numbers(rng)]
    place = rng.choice([*range(min(len(items), 4)), -1])
    slots = {"l": _written(items, rng), "o": ORDINALS[place], "p": POSITIONS[place]}
    return Draw(f"{','.join(items)}@{place}", slots, items[place])


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
    return Draw(key, slots, str(max(numbers) if most else min(numbers)))


SKILLS: tuple[LabSkill, ...] = (
    lab_skill("sort_numbers", "lists", _draw_sort_numbers),
    lab_skill("sort_words", "lists", _draw_sort_words),
    lab_skill("pick_position", "lists", _draw_pick_position),
    lab_skill("pick_extreme", "lists", _draw_pick_extreme),
)
