"""The best route of each question: tried where it is likely, and looked at again where it is odd.

First all routes are tried on some questions, then on more those that a router fitted to the first
ones thinks likeliest. What is best for one question by itself is now and then so by luck: a peer
too many that helped by a hair, a good route that was not tried, or the least bad of ways that are
all wrong. A router learns such labels by heart and is wrong on others: with one label in twenty at
random it took the right route of 87 % of single questions, without of 99 %. So questions that no
route answers are left out, and each part of the others is looked at by a router that was fitted to
the rest (cross-fitting): where it expects another route, that one is tried and taken unless it is
clearly worse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random

import torch

from experts.latent.net.router import Route, Router
from experts.latent.net.team import Team
from experts.latent.plan import TrainingPlan
from experts.latent.training.examples import Examples
from experts.latent.training.optimizing import adam, schedule
from experts.latent.training.routing import (
    Best,
    RouterFitting,
    all_routes,
    likeliest_routes,
    try_routes,
)

_N_PARTS = 3
Tell = Callable[[int, int], None]
"""Is told how many of how many routes were tried."""


class RouteSearch:
    """Of one team and set of examples. The routers that help are thrown away."""

    def __init__(self, team: Team, examples: Examples, plan: TrainingPlan, tell: Tell) -> None:
        self._team, self._examples, self._plan, self._tell = team, examples, plan, tell
        self._best: Best = {}

    def found(self) -> dict[int, Route]:
        """By row; of the questions that can be answered."""
        team, plan = self._team, self._plan
        order = list(range(len(self._examples)))
        Random(f"routes/{plan.seed}").shuffle(order)
        first = order[: plan.route_questions]
        more = order[len(first) : len(first) + plan.likely_questions]
        team.head.eval()
        self._try(dict.fromkeys(all_routes(team.card.names, team.card.top_k), first))
        if more:
            with self._router_of(self._answered()):
                tries = likeliest_routes(team, self._examples, more, plan.likely_routes)
            self._try(tries)
        self._look_again()
        return {row: self._best[row][1] for row in self._answered()}

    def _answered(self) -> list[int]:
        """All rows but the share on which even the best route did worst."""
        rows = sorted(self._best, key=lambda row: self._best[row][0])
        n_kept = len(rows) - int(self._plan.hopeless_share * len(rows))
        kept = set(rows[:n_kept])
        return [row for row in self._best if row in kept]

    def _look_again(self) -> None:
        rows = self._answered()
        expected: dict[Route, list[int]] = {}
        for part in range(_N_PARTS):
            others = [row for i, row in enumerate(rows) if i % _N_PARTS != part]
            its = [row for i, row in enumerate(rows) if i % _N_PARTS == part]
            if not others:
                continue
            with self._router_of(others) as router:
                routes = router.routes([self._examples.examples[i].question for i in its])
            for row, route in zip(its, routes, strict=True):
                if route != self._best[row][1]:
                    expected.setdefault(route, []).append(row)
        self._try(expected, margin=self._plan.odd_route_nats)

    def _try(self, tries: Mapping[Route, Sequence[int]], *, margin: float = 0.0) -> None:
        tried = try_routes(self._team, self._examples, self._plan, tries, self._best, margin=margin)
        for n_tried, _ in enumerate(tried, start=1):
            self._tell(n_tried, len(tries))

    @contextmanager
    def _router_of(self, rows: Sequence[int]) -> Iterator[Router]:
        """The team's router, fitted to the best routes of these rows; afterwards as it was."""
        router, plan = self._team.head.router, self._plan
        before = {k: v.clone() for k, v in router.state_dict().items()}
        fitting = RouterFitting(
            router, self._examples, {row: self._best[row][1] for row in rows}, plan
        )
        fitting.begin()
        optimizer = adam([{"params": list(router.parameters()), "lr": plan.router_rate}])
        for step in range(plan.route_steps):
            for group in optimizer.param_groups:
                group["lr"] = plan.router_rate * schedule(step, plan.route_steps)
            optimizer.zero_grad()
            fitting.loss(step).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        try:
            with torch.no_grad():
                yield router
        finally:
            router.load_state_dict(before)
