"""What each form costs in time, by peers and by length of the prompt, on the bundled members."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from eval.benchmarks.latent import MEMBERS
from eval.latent.speed import SpeedFigures, speeds
from experts.latent.card import FormName
from experts.latent.net.router import Route
from experts.latent.net.team import Team

QUESTION = "What is the token of the guild of Bem Stadur?"
N_ROWS, N_TOKENS = 16, 24
ROUTES = (Route("guilds", ("people",)), Route("guilds", ("people", "sums")))
LENGTHS = (1, 3)
"""Of the prompt, as so many copies of the question."""


def run_speed(
    heads: Mapping[FormName, Path], *, n_rounds: int, say: Callable[[str], None]
) -> list[SpeedFigures]:
    """A line for each form, route and length."""
    found = []
    for folder in heads.values():
        found += speeds_of(Team.load(folder, MEMBERS), n_rounds=n_rounds, say=say)
    return found


def speeds_of(team: Team, *, n_rounds: int, say: Callable[[str], None]) -> list[SpeedFigures]:
    """A line for each route and length."""
    found = []
    for route in ROUTES:
        for length in LENGTHS:
            say(f"timing {team.card.form}, {len(route.peers)} peers, {length} questions long")
            text = " ".join([QUESTION] * length)
            found.append(
                speeds(team, route, text, n_rows=N_ROWS, n_tokens=N_TOKENS, n_rounds=n_rounds)
            )
    return found
