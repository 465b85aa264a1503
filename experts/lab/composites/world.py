"""The facts of the members: a made-up world of guilds, and capitals, countries and currencies.

Which guild a person is in, and which token a guild carries, is drawn by a fixed seed: nobody can
guess it, and nobody has read it anywhere. One guild in four, and one country in four, is *held
out*: nothing that a latent head is trained on is about them, though the members know them like any
other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from experts.lab.composites.names import made_up_name, made_up_person
from experts.lab.questions.facts import table
from experts.lab.questions.grammar import content_hash

N_GUILDS = 300
N_PERSONS = 600
TOKENS = (
    "amber", "anchor", "arrow", "bell", "bone", "candle", "chain", "clover", "coin", "comb",
    "crown", "dagger", "drum", "feather", "flute", "glove", "grain", "hammer", "harp", "honey",
    "horn", "ivory", "jade", "key", "lantern", "leaf", "mask", "mirror", "needle", "oar", "pearl",
    "quill", "ring", "rope", "salt", "shell", "spoon", "thimble", "thread", "wheel",
)  # fmt: skip
MAX_NAME_BYTES = 11
"""Of a country: as long as what a member thinks in one go (``members.THOUGHT_TOKENS``)."""


def _distinct(n: int, draw: Callable[[], str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    while len(found) < n:
        found[draw()] = None
    return tuple(found)


def _guilds() -> tuple[str, ...]:
    rng = Random("guilds")
    return _distinct(N_GUILDS, lambda: made_up_name(rng, 2))


def _persons() -> tuple[str, ...]:
    rng = Random("persons")
    return _distinct(N_PERSONS, lambda: made_up_person(rng))


def _tokens() -> dict[str, str]:
    rng = Random("tokens")
    return {guild: rng.choice(TOKENS) for guild in GUILDS}


GUILDS = _guilds()
PERSONS = _persons()
GUILD_OF: Mapping[str, str] = {p: GUILDS[i % N_GUILDS] for i, p in enumerate(PERSONS)}
TOKEN_OF: Mapping[str, str] = _tokens()
_COUNTRIES = [r for r in table("countries") if len(r["country"].encode()) <= MAX_NAME_BYTES]
COUNTRY_OF: Mapping[str, str] = {
    r["capital"]: r["country"] for r in _COUNTRIES if r["capital"] != r["country"]
}
CURRENCY_OF: Mapping[str, str] = {r["country"]: r["currency"] for r in _COUNTRIES}


def is_held_out(entity: str) -> bool:
    """Of a guild or a country: one in four, by its name."""
    return content_hash(f"held out|{entity}") % 4 == 0
