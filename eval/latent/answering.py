"""A team's answers to questions, by its own routes or by given ones. Greedy, in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from eval.latent.controls import altered
from experts.latent.net.prompts import Prompt
from experts.latent.net.router import Route
from experts.latent.net.team import Team
from experts.latent.plan import Control
from experts.local.decode import decode
from experts.values import Message, Sampling

N_ROWS = 64
MAX_TOKENS = 32


def answers(
    team: Team, questions: Sequence[str], routes: Sequence[Route], *, control: Control = "none"
) -> list[str]:
    """One for each question, by its route."""
    groups: dict[Route, list[int]] = {}
    for i, route in enumerate(routes):
        groups.setdefault(route, []).append(i)
    said: dict[int, str] = {}
    for route, rows in groups.items():
        for start in range(0, len(rows), N_ROWS):
            some = rows[start : start + N_ROWS]
            texts = _answered(team, route, [questions[i] for i in some], control)
            said |= dict(zip(some, texts, strict=True))
    return [said[i] for i in range(len(questions))]


def own_routes(team: Team, questions: Sequence[str]) -> list[Route]:
    return team.head.router.routes(questions)


def _answered(team: Team, route: Route, questions: Sequence[str], control: Control) -> list[str]:
    asked = [[Message(role="user", content=q)] for q in questions]
    prompts: Mapping[str, list[Prompt]] = {
        name: [team.members[name].prompt(m) for m in asked]
        for name in (route.primary, *route.peers)
    }
    tokenizer = team.members[route.primary].tokenizer
    ids: list[list[int]] = [[] for _ in questions]
    sampling = [Sampling(max_tokens=MAX_TOKENS)] * len(questions)
    steps = team.steps(route, prompts, alter=partial(altered, control=control))
    for step in decode(steps, sampling, end_ids=tokenizer.end_ids):
        for token in step:
            if token.token_id not in tokenizer.end_ids:
                ids[token.row].append(token.token_id)
    return [tokenizer.decode(row) for row in ids]
