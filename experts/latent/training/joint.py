"""Phase three: the language loss of right answers, through the frozen primary, trains what the head
puts into it; and through the gates, the router."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

import torch

from experts.latent.net.router import Route
from experts.latent.net.team import Team
from experts.latent.plan import TrainingPlan
from experts.latent.training.examples import Examples
from experts.latent.training.routing import RouterFitting, log_gates_of, token_losses

_ONE_MORE_SHARE = 0.1
"""Of batches, that ask a peer too many: gates learn from them that it is one."""


class JointTraining:
    """Batches of questions that share a route."""

    def __init__(
        self,
        team: Team,
        examples: Examples,
        plan: TrainingPlan,
        routes: Mapping[int, Route],
    ) -> None:
        self._team, self._examples, self._plan = team, examples, plan
        self._fitting = RouterFitting(team.head.router, examples, routes, plan)
        groups: dict[Route, list[int]] = {}
        for row, route in routes.items():
            if route.peers:
                groups.setdefault(route, []).append(row)
        self._groups = [(r, rows) for r, rows in groups.items() if len(rows) > 1]

    def loss(self, step: int) -> torch.Tensor:
        """Of one batch, in nats a token, with the router's."""
        rng = Random(f"joint/{self._plan.seed}/{step}")
        loss = self._fitting.loss(step)
        if self._groups:
            loss = loss + self._language(rng)
        return loss

    def _language(self, rng: Random) -> torch.Tensor:
        route, able = rng.choices(self._groups, [len(rows) for _, rows in self._groups])[0]
        if rng.random() < _ONE_MORE_SHARE:
            route = self._with_one_more(route, rng)
        rows = [rng.choice(able) for _ in range(self._plan.joint_rows)]
        texts = self._texts(rows)
        gates = log_gates_of(self._team.head.router, texts, route)
        losses, _ = token_losses(self._team, self._examples, route, rows, gates)
        return losses.mean()

    def _with_one_more(self, route: Route, rng: Random) -> Route:
        left = [m for m in self._team.card.names if m not in (route.primary, *route.peers)]
        if not left or len(route.peers) >= self._team.card.top_k:
            return route
        chosen = {*route.peers, rng.choice(left)}
        return Route(route.primary, tuple(m for m in self._team.card.names if m in chosen))

    def _texts(self, rows: Sequence[int]) -> list[str]:
        return [self._examples.examples[i].question for i in rows]
