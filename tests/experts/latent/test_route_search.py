"""Labels of routes: what is odd is looked at again, what no route answers teaches nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from experts.lab.composites.questions import LatentQuestion, draw_questions, training_questions
from experts.latent.net.router import Route, Router
from experts.latent.plan import TrainingPlan
from experts.latent.training import route_search
from experts.latent.training.examples import Examples
from experts.latent.training.route_search import RouteSearch
from experts.latent.training.routing import Best, RouterFitting
from tests.experts.latent.teams import members, untrained

PLAN = TrainingPlan(
    route_questions=2000,
    likely_questions=0,
    route_steps=300,
    hopeless_share=0.05,
)


class Questions(list[LatentQuestion]):
    """As much of ``Examples`` as a search looks at while trying is simulated."""

    @cached_property
    def examples(self) -> list[Any]:
        return [SimpleNamespace(question=q.text) for q in self]


def right_route(question: LatentQuestion) -> Route:
    return Route(question.members[-1], question.members[:-1])


def test_labels_are_mended_and_hopeless_ones_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The right route takes 0.2 nats and another 20; of every twenty questions one has another
    that is half a nat better by luck, and one is answered by none."""
    asked = Questions(training_questions(2000, seed=4))
    rng = Random(0)
    lucky = {i: rng.choice(["people", "guilds", "sums"]) for i in range(0, 2000, 20)}

    def price(row: int, route: Route) -> float:
        if row % 20 == 1:
            return 30 + rng.random()
        if row in lucky and route == Route(lucky[row]):
            return 0.0
        return 0.5 if route == right_route(asked[row]) else 20.0

    def simulated(
        team: Any,
        examples: Any,
        plan: Any,
        tries: Mapping[Route, Sequence[int]],
        best: Best,
        *,
        margin: float = 0.0,
    ) -> Iterator[None]:
        for route, rows in tries.items():
            for row in rows:
                found = price(row, route)
                if row not in best or found < best[row][0] + margin:
                    best[row] = (found, route)
            yield

    monkeypatch.setattr(route_search, "try_routes", simulated)
    team = untrained("soft_prefix", members())
    before = {k: v.clone() for k, v in team.head.router.state_dict().items()}
    found = RouteSearch(team, cast(Examples, asked), PLAN, lambda done, total: None).found()
    assert not [row for row in found if row % 20 == 1]
    wrong = [row for row, route in found.items() if route != right_route(asked[row])]
    assert len(found) == 1900
    assert len(wrong) < 20  # of a hundred by luck
    after = team.head.router.state_dict()
    assert all(after[k].equal(v) for k, v in before.items())


def test_a_router_is_deaf_to_names() -> None:
    """Whose guild is asked for does not matter, and most questions with a person's name ask for
    more than the guild."""
    asked = Questions(training_questions(8000, seed=4))
    router = Router(("people", "guilds", "sums"), top_k=2)
    routes = {i: right_route(question) for i, question in enumerate(asked)}
    fitting = RouterFitting(router, cast(Examples, asked), routes, PLAN)
    fitting.begin()
    optimizer = torch.optim.Adam(router.parameters(), lr=0.1)
    for step in range(150):
        optimizer.zero_grad()
        fitting.loss(step).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    others = [q for q in draw_questions("single", "test", 1000, seed=3) if q.steps == ("guild",)]
    found = router.routes([q.text for q in others])
    n_right = sum(route == right_route(q) for q, route in zip(others, found, strict=True))
    assert n_right / len(others) > 0.97  # 77 % where every word counts
