"""Made-up names, spelled from syllables so that any of them could be a name."""

from __future__ import annotations

from random import Random

_ONSETS = (
    "br", "b", "d", "dr", "f", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "r", "s", "st", "t",
    "tr", "v", "w", "z",
)  # fmt: skip
_VOWELS = "aeiou"
_CODAS = ("l", "n", "r", "s", "th", "x", "m", "k")


def made_up_name(rng: Random, n_syllables: int) -> str:
    """Capitalised, of some 3 letters a syllable: ``Dravok``."""
    syllables = (rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(n_syllables))
    return ("".join(syllables) + rng.choice(_CODAS)).capitalize()


def made_up_person(rng: Random) -> str:
    """First and last name: ``Bem Stadur``."""
    return f"{made_up_name(rng, 1)} {made_up_name(rng, 2)}"
