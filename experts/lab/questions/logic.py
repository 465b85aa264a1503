"""Small deductions: truth values, orderings, syllogisms, conditionals."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from random import Random

from experts.lab.questions.skill import Draw, LabSkill, lab_skill

# (more, most, less, least): comparatives and superlatives of one scale, for people ...
PEOPLE_SCALES = (
    ("is taller than", "tallest", "is shorter than", "shortest"),
    ("is older than", "oldest", "is younger than", "youngest"),
    ("is faster than", "fastest", "is slower than", "slowest"),
    ("is heavier than", "heaviest", "is lighter than", "lightest"),
    ("is richer than", "richest", "is poorer than", "poorest"),
    ("is stronger than", "strongest", "is weaker than", "weakest"),
    ("weighs more than", "heaviest", "weighs less than", "lightest"),
    ("has more money than", "richest", "has less money than", "poorest"),
    ("runs faster than", "fastest", "runs slower than", "slowest"),
    ("was born before", "oldest", "was born after", "youngest"),
)
# ... and for things.
THING_SCALES = (
    ("is bigger than", "biggest", "is smaller than", "smallest"),
    ("is larger than", "largest", "is smaller than", "smallest"),
    ("is heavier than", "heaviest", "is lighter than", "lightest"),
    ("is older than", "oldest", "is newer than", "newest"),
    ("is longer than", "longest", "is shorter than", "shortest"),
    ("is more expensive than", "most expensive", "is cheaper than", "cheapest"),
    ("weighs more than", "heaviest", "weighs less than", "lightest"),
    ("costs more than", "most expensive", "costs less than", "cheapest"),
    ("cost more than", "most expensive", "cost less than", "cheapest"),
)
THINGS = (
    "lamp", "clock", "vase", "chair", "table", "book", "bag", "box", "car", "bike", "boat",
    "house", "shirt", "coat", "phone", "ring", "rope", "stone", "bench", "desk",
)  # fmt: skip
KINDS = (
    "cats", "dogs", "birds", "snakes", "roses", "trees", "cars", "boats", "poets", "doctors",
    "pilots", "singers", "fish", "horses", "robots", "teachers", "students", "plants", "mammals",
    "artists", "machines", "insects", "tulips", "spoons", "planets", "rivers", "bakers", "drivers",
    "blips", "zorps", "wugs", "daxes", "fleps", "grons",
)  # fmt: skip
# (as a condition, as a statement, denied, as a question)
FACTS = (
    ("it rains", "It rains", "It does not rain", "does it rain"),
    ("it snows", "It snows", "It does not snow", "does it snow"),
    ("the sun shines", "The sun shines", "The sun does not shine", "does the sun shine"),
    ("the street is wet", "The street is wet", "The street is not wet", "is the street wet"),
    ("the shop is open", "The shop is open", "The shop is not open", "is the shop open"),
    ("the lamp is on", "The lamp is on", "The lamp is not on", "is the lamp on"),
    ("the door is locked", "The door is locked", "The door is not locked", "is the door locked"),
    ("the bell rings", "The bell rings", "The bell does not ring", "does the bell ring"),
    ("the alarm rings", "The alarm rings", "The alarm does not ring", "does the alarm ring"),
    ("the dog barks", "The dog barks", "The dog does not bark", "does the dog bark"),
    ("Anna is home", "Anna is home", "Anna is not home", "is Anna home"),
    ("Tom works", "Tom works", "Tom does not work", "does Tom work"),
    ("Ben is late", "Ben is late", "Ben is not late", "is Ben late"),
    ("the match is on", "The match is on", "The match is not on", "is the match on"),
    ("the ice melts", "The ice melts", "The ice does not melt", "does the ice melt"),
    ("the baby sleeps", "The baby sleeps", "The baby does not sleep", "does the baby sleep"),
    ("the bus is full", "The bus is full", "The bus is not full", "is the bus full"),
    ("Mia is happy", "Mia is happy", "Mia is not happy", "is Mia happy"),
    ("the grass grows", "The grass grows", "The grass does not grow", "does the grass grow"),
    ("the train stops", "The train stops", "The train does not stop", "does the train stop"),
    ("the soup is hot", "The soup is hot", "The soup is not hot", "is the soup hot"),
    ("the king sings", "The king sings", "The king does not sing", "does the king sing"),
)


@cache
def first_names() -> tuple[str, ...]:
    """Short first names, capitalised."""
    text = files("experts.lab").joinpath("facts/names.txt").read_text(encoding="utf-8")
    return tuple(text.split())


def _draw_boolean(rng: Random) -> Draw:
    def atom() -> str:
        word = rng.choice(("true", "false"))
        return f"not {word}" if rng.random() < 0.25 else word

    first, second, third = atom(), atom(), atom()
    one, two = rng.choice(("and", "or")), rng.choice(("and", "or"))
    shape = rng.random()
    if shape < 0.25:
        text = f"{first} {one} {second}"
    elif shape < 0.55:
        text = f"{first} {one} {second} {two} {third}"
    elif shape < 0.75:
        text = f"({first} {one} {second}) {two} {third}"
    elif shape < 0.9:
        text = f"{first} {one} ({second} {two} {third})"
    else:
        text = f"not ({first} {one} {second})"
    shown = text.replace("true", "True").replace("false", "False") if rng.random() < 0.2 else text
    steps = reduction(text)
    worked = " = ".join(steps) if len(steps) > 1 else text
    return Draw(text, {"x": shown}, steps[-1], worked)


# Bindings from tight to loose; each is reduced everywhere before the next is looked at.
_RULES = (
    (re.compile(r"not (true|false)"), lambda m: _truth(m[1] == "false")),
    (re.compile(r"(true|false) and (true|false)"), lambda m: _truth(m[1] == m[2] == "true")),
    (re.compile(r"(true|false) or (true|false)"), lambda m: _truth("true" in (m[1], m[2]))),
)


def reduction(text: str) -> list[str]:
    """The steps from an expression to its value: brackets first, then not, and, or.

    >>> reduction("not true or (false or true)")
    ['not true or (false or true)', 'not true or true', 'false or true', 'true']
    """
    steps = [text]
    while steps[-1] not in ("true", "false"):
        text = steps[-1]
        if inner := re.search(r"\(([^()]*)\)", text):
            reduced = _reduced_once(inner[1])
            shown = f"({reduced})" if " " in reduced else reduced
            steps.append(text[: inner.start()] + shown + text[inner.end() :])
        else:
            steps.append(_reduced_once(text))
    return steps


def _reduced_once(text: str) -> str:
    for pattern, rule in _RULES:
        if pattern.search(text):
            return pattern.sub(rule, text)
    raise ValueError(f"{text!r} is not a boolean expression.")


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _draw_ordering(rng: Random) -> Draw:
    people = rng.random() < 0.65
    names = rng.sample(first_names() if people else THINGS, 3)
    more, most, less, least = rng.choice(PEOPLE_SCALES if people else THING_SCALES)
    article = "" if people else "the "

    def statement(high: str, low: str) -> str:
        first, relation, second = (high, more, low) if rng.random() < 0.6 else (low, less, high)
        return f"{article}{first} {relation} {article}{second}"

    order = rng.choice(((0, 1), (1, 0)))
    statements = [statement(names[i], names[i + 1]) for i in order]
    top = rng.random() < 0.5
    one, two = (s[0].upper() + s[1:] for s in statements)
    slots = {
        "s": one, "t": two, "u": statements[1], "v": statements[0],
        "e": most if top else least, "who": "who" if people else "which",
        "Who": "Who" if people else "Which",
    }  # fmt: skip
    answer = names[0] if top else names[2]
    pairs = [f"{names[i]} > {names[i + 1]}" for i in order]
    worked = f"{pairs[0]}, {pairs[1]}: {' > '.join(names)}. Answer: {answer}"
    return Draw(f"{'>'.join(names)}{more}{answer}", slots, answer, worked)


def _draw_syllogism(rng: Random) -> Draw:
    a, b, c = rng.sample(KINDS, 3)
    # The question's quantifier says nothing about the answer: it is drawn apart from the premises.
    first, second, subject, target, answer = rng.choice(
        (
            (f"All {a} are {b}", f"All {b} are {c}", a, c, "yes"),
            (f"All {a} are {b}", f"No {b} are {c}", a, c, "no"),
            (f"No {a} are {b}", f"All {c} are {a}", c, b, "no"),
            (f"Some {a} are {b}", f"All {b} are {c}", a, c, "yes"),
        )
    )
    quantifiers = ("any", "some") if first.startswith("Some") else ("all", "any", "some", "the")
    question = f"are {rng.choice(quantifiers)} {subject} {target}"
    # The same in either order of its premises, and whatever word asks it.
    key = f"{','.join(sorted((first, second)))},{subject} {target}"
    if rng.random() < 0.5:
        first, second = second, first
    low = {"u": second[0].lower() + second[1:], "v": first[0].lower() + first[1:]}
    slots = {"s": first, "t": second, "q": question, "Q": question[0].upper() + question[1:], **low}
    return Draw(key, slots, answer)


def _draw_conditional(rng: Random) -> Draw:
    cause, effect = rng.sample(FACTS, 2)
    form = rng.choice(("ponens", "ponens", "tollens", "denied"))
    then = _lower(effect[2]) if form == "denied" else effect[0]
    know, question = (effect[2], cause[3]) if form == "tollens" else (cause[1], effect[3])
    slots = {
        "if": cause[0],
        "then": then,
        "If": _upper(cause[0]),
        "Then": _upper(then),
        "know": know,
        "knows": _lower(know),
        "ask": question,
        "Ask": _upper(question),
    }
    answer = "yes" if form == "ponens" else "no"
    return Draw(f"{cause[0]}>{effect[0]}:{form}", slots, answer)


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def _lower(text: str) -> str:
    """Lower the first letter, except of the names that FACTS speaks of."""
    return text if text.startswith(("Anna", "Tom", "Ben", "Mia")) else text[0].lower() + text[1:]


SKILLS: tuple[LabSkill, ...] = (
    lab_skill("boolean", "logic", _draw_boolean),
    lab_skill("ordering", "logic", _draw_ordering),
    lab_skill("syllogism", "logic", _draw_syllogism),
    lab_skill("conditional", "logic", _draw_conditional),
)
