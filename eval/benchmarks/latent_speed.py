"""What each form costs in time, by peers and by length of the prompt, on the bundled members."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from eval.benchmarks.latent import FIRST_DRAW, MEMBERS
from eval.latent.accuracy import LATENT, TWO_CALLS, latent_right
from eval.latent.answering import answers
from eval.latent.baselines import two_calls
from eval.latent.speed import SpeedFigures, in_turns, speeds
from eval.statistics import Estimate
from experts.lab.composites.questions import Kind, draw_questions
from experts.latent.card import FormName
from experts.latent.net.router import Route
from experts.latent.net.team import Team

QUESTION = "What is the token of the guild of Bem Stadur?"
N_ROWS, N_TOKENS = 16, 24
ROUTES = (Route("guilds", ("people",)), Route("guilds", ("people", "sums")))
LENGTHS = (1, 3)
"""Of the prompt, as so many copies of the question."""
N_ASKED = 64


def run_speed(
    heads: Mapping[FormName, Path], *, n_rounds: int, say: Callable[[str], None]
) -> list[SpeedFigures]:
    """A line for each form, route and length."""
    found = []
    for folder in heads.values():
        found += speeds_of(Team.load(folder, MEMBERS), n_rounds=n_rounds, say=say)
    return found


def run_ways(
    head: Path, *, n_rounds: int, say: Callable[[str], None]
) -> dict[str, dict[str, Estimate]]:
    """Seconds to answer ``N_ASKED`` questions of two steps, by kind and way: latent, two calls in
    words, and the primary by itself, which is wrong."""
    team = Team.load(head, MEMBERS)
    kinds: tuple[Kind, ...] = ("entities", "pairs")
    found: dict[str, dict[str, Estimate]] = {}
    for kind in kinds:
        say(f"timing ways of answering, {kind}")
        questions = draw_questions(kind, "test", N_ASKED, seed=FIRST_DRAW)
        texts = [q.text for q in questions]
        primaries = [Route(q.members[-1]) for q in questions]
        ways: dict[str, Callable[[], object]] = {
            LATENT: partial(latent_right, team, questions),
            TWO_CALLS: partial(two_calls, team, questions),
            "one call": partial(answers, team, texts, primaries),
        }
        found[kind] = in_turns(ways, n_rounds=n_rounds)
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
