"""Whole-number arithmetic: addition, subtraction, multiplication, as people ask it."""

from __future__ import annotations

from random import Random

from experts.lab.questions.skill import Draw, LabSkill, lab_skill

THINGS = (
    "apples", "coins", "books", "stamps", "marbles", "cards", "tickets", "eggs", "pencils",
    "stickers", "chairs", "cups", "oranges", "bottles", "shells", "plants",
)  # fmt: skip
CONTAINERS = ("boxes", "bags", "rows", "crates", "baskets", "packs", "shelves", "jars")


def _number(rng: Random) -> int:
    """1 to 999, with small numbers as common as people make them."""
    dice = rng.random()
    return rng.randint(1, 20) if dice < 0.1 else rng.randint(1, 99 if dice < 0.4 else 999)


def _draw_addition(rng: Random) -> Draw:
    a, b = _number(rng), _number(rng)
    low, high = sorted((a, b))
    slots = {"a": str(a), "b": str(b), "t": rng.choice(THINGS)}
    return Draw(f"{low}+{high}", slots, str(a + b), worked_sum(a, b))


def _draw_subtraction(rng: Random) -> Draw:
    a, b = _number(rng), _number(rng)
    if a < b and rng.random() < 0.95:
        a, b = b, a
    slots = {"a": str(a), "b": str(b), "t": rng.choice(THINGS)}
    worked = f"{worked_sum(b, -a)}. Answer: {a - b}" if a < b else worked_sum(a, -b)
    return Draw(f"{a}-{b}", slots, str(a - b), worked)


def _draw_multiplication(rng: Random) -> Draw:
    if rng.random() < 0.55:
        a, b = rng.randint(2, 99), rng.randint(2, 12)
    else:
        a, b = rng.randint(100, 999), rng.randint(2, 9)
    low, high = sorted((a, b))
    if rng.random() < 0.4:
        a, b = b, a
    slots = {
        "a": str(a), "b": str(b), "t": rng.choice(THINGS), "c": rng.choice(CONTAINERS),
        "low": str(low), "high": str(high),
    }  # fmt: skip
    return Draw(f"{low}*{high}", slots, str(a * b), worked_product(high, low))


def worked_sum(a: int, b: int) -> str:
    """``475 + 672 = 1075 + 72 = 1145 + 2 = 1147``: b's digits one after the other; b may be
    negative, the result must not be."""
    sign = "+" if b >= 0 else "-"
    text, total, rest = f"{a} {sign} {abs(b)}", a, abs(b)
    for place in (1000, 100, 10, 1):
        part = rest // place * place
        if part or (place == 1 and not b):
            total, rest = total + (part if b >= 0 else -part), rest - part
            text += f" = {total}" + (f" {sign} {rest}" if rest else "")
    return text


def worked_product(large: int, small: int) -> str:
    """``417 x 6 = 2400 + 60 + 42 = 2460 + 42 = 2502``: the products of the digits of the larger
    factor, added one after the other."""
    digits = str(large)
    parts = [int(d) * 10 ** (len(digits) - 1 - i) * small for i, d in enumerate(digits)]
    parts = [p for p in parts if p]
    text = f"{large} x {small}"
    while parts:
        text += f" = {' + '.join(map(str, parts))}"
        parts = [sum(parts[:2]), *parts[2:]] if len(parts) > 1 else []
    return text


SKILLS: tuple[LabSkill, ...] = (
    lab_skill("addition", "arithmetic", _draw_addition),
    lab_skill("subtraction", "arithmetic", _draw_subtraction),
    lab_skill("multiplication", "arithmetic", _draw_multiplication),
)
