"""Rewriting single words letter by letter."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from random import Random

from experts.lab.questions.skill import Draw, LabSkill, lab_skill

LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOWELS = "aeiou"
QUOTES = ("'{}'", '"{}"', "{}", "{}", "{}")


@cache
def word_list() -> tuple[str, ...]:
    """About 1500 common English words of 3 to 9 letters, lower case."""
    text = files("experts.lab").joinpath("facts/words.txt").read_text(encoding="utf-8")
    return tuple(text.split())


def any_word(rng: Random) -> str:
    """A real word, or letters at random: spelling must not depend on having seen the word."""
    if rng.random() < 0.6:
        return rng.choice(word_list())
    length = rng.randint(3, 9)
    return "".join(rng.choice(VOWELS if rng.random() < 0.35 else LETTERS) for _ in range(length))


def quoted(word: str, rng: Random) -> str:
    """The word as people set it off: mostly bare, sometimes in quotes."""
    return rng.choice(QUOTES).format(word)


def _rewriting(rewrite: Callable[[str], str]) -> Callable[[Random], Draw]:
    def draw(rng: Random) -> Draw:
        word = any_word(rng)
        while not rewrite(word):  # "eau" without vowels would be an empty answer
            word = any_word(rng)
        return Draw(word, {"w": quoted(word, rng)}, rewrite(word))

    return draw


def _draw_replacement(rng: Random) -> Draw:
    word = any_word(rng)
    old = rng.choice(word)
    new = rng.choice([c for c in LETTERS if c != old])
    slots = {"w": quoted(word, rng), "x": old, "y": new}
    if rng.random() < 0.3:
        slots |= {"x": f"'{old}'", "y": f"'{new}'"}
    answer = word.replace(old, new)
    # Which letter becomes which is read first, and only then written.
    return Draw(f"{word}:{old}>{new}", slots, answer, f"{word}, {old} to {new}. Answer: {answer}")


SKILLS: tuple[LabSkill, ...] = (
    lab_skill("reverse_word", "words", _rewriting(lambda w: w[::-1])),
    lab_skill(
        "remove_vowels", "words", _rewriting(lambda w: "".join(c for c in w if c not in VOWELS))
    ),
    lab_skill("replace_letter", "words", _draw_replacement),
    lab_skill("uppercase", "words", _rewriting(str.upper), case_matters=True),
    lab_skill("count_letters", "words", _rewriting(lambda w: str(len(w)))),
)
