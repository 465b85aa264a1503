"""Phase two: which route gives the right answer the best chance.

A route is a primary and the peers that it asks. Which are tried is for ``route_search`` to say; the
router is fitted to the best of each question, and the language loss goes on training it in phase
three.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from random import Random

import numpy as np
import torch
import torch.nn.functional as F

from experts.latent.net.router import Route, Router
from experts.latent.net.team import Team
from experts.latent.plan import TrainingPlan
from experts.latent.training.examples import Examples

_CHUNK = 64
_ROUTER_ROWS = 256


def all_routes(members: Sequence[str], top_k: int) -> list[Route]:
    """Every primary, alone and with up to ``top_k`` peers."""
    return [
        Route(primary, peers)
        for primary in members
        for k in range(top_k + 1)
        for peers in combinations([m for m in members if m != primary], k)
    ]


@torch.no_grad()
def answer_losses(
    team: Team, examples: Examples, route: Route, rows: Sequence[int]
) -> torch.Tensor:
    """Nats of the whole right answer under a route, (n,)."""
    found = []
    for start in range(0, len(rows), _CHUNK):
        some = rows[start : start + _CHUNK]
        loss, n_tokens = token_losses(team, examples, route, some)
        ends = np.cumsum([0, *n_tokens])
        found.append(torch.stack([loss[a:b].sum() for a, b in pairwise(ends)]))
    return torch.cat(found)


def token_losses(
    team: Team,
    examples: Examples,
    route: Route,
    rows: Sequence[int],
    log_gates: torch.Tensor | None = None,
) -> tuple[torch.Tensor, list[int]]:
    """Nats of each token of the right answers, (n_tokens,), and how many each row has."""
    primary = team.members[route.primary]
    asked = examples.asked(route.primary, route.peers, rows, with_answers=True)
    if team.form.reads_along:
        thoughts = examples.whole_thoughts(route.primary, route.peers, rows)
    else:
        thoughts = examples.thoughts(route.peers, rows)
    states, _ = team.form.begin(primary, asked, thoughts, log_gates)
    answers = [examples.answers[route.primary][i] for i in rows]
    n_before = len(examples.prompts[route.primary][rows[0]].after) - 1
    wanted = torch.full(states.shape[:2], -1)
    for i, answer in enumerate(answers):
        wanted[i, n_before : n_before + len(answer)] = torch.tensor(answer)
    wanted = wanted.to(states.device)
    counted = wanted >= 0
    loss = F.cross_entropy(
        primary.model.lm_head(states[counted]), wanted[counted], reduction="none"
    )
    return loss, [len(a) for a in answers]


Best = dict[int, tuple[float, Route]]
"""By row: nats of the right answer, peers' price included, and the route."""


def try_routes(
    team: Team,
    examples: Examples,
    plan: TrainingPlan,
    tries: Mapping[Route, Sequence[int]],
    best: Best,
    *,
    margin: float = 0.0,
) -> Iterator[None]:
    """Try routes on these rows, and keep the best of each row in ``best``; yields after each. One
    that is less than ``margin`` nats worse is taken, too."""
    for route, rows in tries.items():
        losses = answer_losses(team, examples, route, rows)
        for row, loss in zip(rows, losses.tolist(), strict=True):
            price = loss + plan.peer_cost_nats * len(route.peers)
            if row not in best or price < best[row][0] + margin:
                best[row] = (price, route)
        yield


@torch.no_grad()
def likeliest_routes(
    team: Team, examples: Examples, rows: Sequence[int], n_routes: int
) -> dict[Route, list[int]]:
    """Which rows each route is worth trying on: a row's ``n_routes`` likeliest, by the router."""
    router = team.head.router
    place = {name: i for i, name in enumerate(router.members)}
    speak, ask = router([examples.examples[i].question for i in rows])
    spoken, asked, silent = speak.log_softmax(-1), F.logsigmoid(ask), F.logsigmoid(-ask)
    routes = all_routes(team.card.names, team.card.top_k)
    scores = []
    for route in routes:
        i = place[route.primary]
        score = spoken[:, i]
        for name, j in place.items():
            if j != i:
                score = score + (asked if name in route.peers else silent)[:, i, j]
        scores.append(score)
    chosen = torch.stack(scores, 1).topk(n_routes).indices
    tries: dict[Route, list[int]] = {}
    for row, indices in zip(rows, chosen.tolist(), strict=True):
        for index in indices:
            tries.setdefault(routes[index], []).append(row)
    return tries


def router_loss(
    router: Router, texts: Sequence[str], routes: Sequence[Route], balance: float
) -> torch.Tensor:
    """That each text takes its best route, and that no member is forgotten.

    Balance: members * sum(share of texts that it speaks for * mean probability of speaking), 1
    where all are even (Fedus et al. 2021, Switch Transformer, equation 4); only the probability has
    a gradient."""
    speak, ask = router(texts)
    place = {name: i for i, name in enumerate(router.members)}
    primaries = torch.tensor([place[r.primary] for r in routes], device=speak.device)
    wanted = torch.zeros(len(routes), len(place), device=speak.device)
    for i, route in enumerate(routes):
        wanted[i, [place[p] for p in route.peers]] = 1.0
    gates = ask[torch.arange(len(routes)), primaries]
    others = torch.ones_like(wanted).scatter(1, primaries[:, None], 0.0)
    asked = F.binary_cross_entropy_with_logits(gates, wanted, weight=others)
    shares = F.one_hot(speak.argmax(-1), len(place)).float().mean(0)
    evenness = len(place) * (shares * speak.softmax(-1).mean(0)).sum()
    loss: torch.Tensor = F.cross_entropy(speak, primaries) + asked + balance * evenness
    return loss


class RouterFitting:
    """Batches of questions and their best routes, for the router alone."""

    def __init__(
        self, router: Router, examples: Examples, routes: Mapping[int, Route], plan: TrainingPlan
    ) -> None:
        self._router, self._plan = router, plan
        self._texts = [examples.examples[row].question for row in routes]
        self._routes = list(routes.values())

    def begin(self) -> None:
        """Of a router that was not trained on them before."""
        self._router.open(self._texts, self._plan.rare_word_share)

    def loss(self, step: int) -> torch.Tensor:
        rng = Random(f"route/{self._plan.seed}/{step}")
        rows = [rng.randrange(len(self._texts)) for _ in range(_ROUTER_ROWS)]
        texts, routes = [self._texts[i] for i in rows], [self._routes[i] for i in rows]
        return router_loss(self._router, texts, routes, self._plan.balance)


def log_gates_of(router: Router, texts: Sequence[str], route: Route) -> torch.Tensor:
    """log(how much the router would have each peer count), (n, n_peers)."""
    _, ask = router(texts)
    place = {name: i for i, name in enumerate(router.members)}
    chosen = ask[:, place[route.primary]][:, [place[p] for p in route.peers]]
    log_gates: torch.Tensor = F.logsigmoid(chosen)
    return log_gates
