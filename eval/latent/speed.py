"""What a latent expert costs in time: beside its members, by peers and by length of the prompt.

All ways are timed in turns, round after round, because machines are noisy; medians are reported.
Texts are the same for all. A way is one answer of a fixed number of tokens to a batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from eval.statistics import Estimate, bootstrap_interval
from experts.latent.net.form import Link
from experts.latent.net.member import Member
from experts.latent.net.prompts import Prompt
from experts.latent.net.router import Route
from experts.latent.net.team import Team
from experts.latent.net.thoughts import Reader
from experts.local.decode import ModelSteps, Steps
from experts.values import Message


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeedFigures:
    """Of one form, at one number of peers and length of the prompt."""

    form: str
    n_peers: int
    prompt_bytes: int
    n_parameters: int
    """Trained ones, of the links that are used."""
    head_bytes: int
    """That they hold in memory."""
    n_rows: int
    n_tokens: int
    first_s: Estimate
    """Seconds to the first token, peers' reading included."""
    own_first_s: Estimate
    """The primary's alone."""
    reading_s: Estimate
    """Its peers', reading and thinking."""
    added_to_first: Estimate
    """(first - reading) / own first - 1."""
    decode_ratio: Estimate
    """Tokens per second behind the first, of the primary's own."""
    tokens_ratio: Estimate
    """Tokens per second of the whole, of primary and peers run separately on the same texts: one
    after the other says, each in its own tokens, what the primary says."""
    tokens_ratio_by_count: Estimate
    """The same beside peers that say no more tokens than the primary, however short theirs are."""


def speeds(
    team: Team, route: Route, text: str, *, n_rows: int, n_tokens: int, n_rounds: int
) -> SpeedFigures:
    """``n_rows`` copies of a question, answered in ``n_tokens`` tokens, end tokens ignored."""
    ways = _ways(team, route, text, n_rows, n_tokens)
    rounds: list[dict[str, float]] = []
    for i in range(n_rounds + 1):
        names = list(ways)
        order = names if i % 2 else names[::-1]
        took: dict[str, float] = {}
        for name in order:
            took |= {f"{name} {part}": s for part, s in ways[name]().items()}
        if i:  # the first warms up
            rounds.append(took)
    used = _used(team, route)
    t = {k: np.array([r[k] for r in rounds]) for k in rounds[0]}
    first, reading, own = t["latent first"], t["peers read"], t["own first"]
    alone = own + t["own rest"]
    return SpeedFigures(
        form=team.card.form,
        n_peers=len(route.peers),
        prompt_bytes=len(text.encode()),
        n_parameters=sum(p.numel() for p in used),
        head_bytes=sum(p.numel() * p.element_size() for p in used),
        n_rows=n_rows,
        n_tokens=n_tokens,
        first_s=_median(first),
        own_first_s=_median(own),
        reading_s=_median(reading),
        added_to_first=_median((first - reading) / own - 1),
        decode_ratio=_median(t["own rest"] / t["latent rest"]),
        tokens_ratio=_median((alone + t["peers along"]) / (first + t["latent rest"])),
        tokens_ratio_by_count=_median((alone + t["peers as many"]) / (first + t["latent rest"])),
    )


def in_turns(ways: Mapping[str, Callable[[], object]], *, n_rounds: int) -> dict[str, Estimate]:
    """Median seconds of each way, timed round after round; the first round warms up."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(n_rounds + 1):
        for name in list(ways) if i % 2 else [*ways][::-1]:
            started = time.perf_counter()
            ways[name]()
            if i:
                took[name].append(time.perf_counter() - started)
    return {name: _median(np.array(seconds)) for name, seconds in took.items()}


def _ways(
    team: Team, route: Route, text: str, n_rows: int, n_tokens: int
) -> Mapping[str, Callable[[], dict[str, float]]]:
    messages = [Message(role="user", content=text)]
    prompts: dict[str, list[Prompt]] = {
        name: [team.members[name].prompt(messages)] * n_rows
        for name in (route.primary, *route.peers)
    }
    primary = team.members[route.primary]
    peers = [team.members[p] for p in route.peers]

    latent = partial(team.steps, route, prompts)
    said = primary.tokenizer.decode(_greedy(latent(), n_tokens))
    n_along = {p.name: max(1, len(p.tokenizer.tokens_of(said)[0])) for p in peers}

    def plain(member: Member) -> ModelSteps:
        ids = [p.ids for p in prompts[member.name]]
        return ModelSteps(member.model, ids, pad_id=member.slot_id)

    def reading() -> dict[str, float]:
        started = time.perf_counter()
        for peer in peers:
            Reader(peer, prompts[peer.name]).think(team.card.n_slots)
        took = {"read": time.perf_counter() - started, "along": 0.0, "as many": 0.0}
        for peer in peers:
            n = n_along[peer.name]
            at = _token_times(partial(plain, peer), max(n, n_tokens))
            took["along"] += at[n - 1]
            took["as many"] += at[n_tokens - 1]
        return took

    def speaking(begin: Callable[[], Steps]) -> dict[str, float]:
        at = _token_times(begin, n_tokens)
        return {"first": at[0], "rest": at[-1] - at[0]}

    return {
        "latent": lambda: speaking(latent),
        "own": lambda: speaking(partial(plain, primary)),
        "peers": reading,
    }


@torch.inference_mode()
def _token_times(begin: Callable[[], Steps], n_tokens: int) -> list[float]:
    """Seconds until each token of a batch is there."""
    started = time.perf_counter()
    steps = begin()
    logits = steps.first()
    at = [time.perf_counter() - started]
    for _ in range(n_tokens - 1):
        logits = steps.next(logits.argmax(-1))
        at.append(time.perf_counter() - started)
    return at


@torch.inference_mode()
def _greedy(steps: Steps, n_tokens: int) -> list[int]:
    """What the first row says, end tokens and all."""
    chosen = steps.first().argmax(-1)
    said = [int(chosen[0])]
    for _ in range(n_tokens - 1):
        chosen = steps.next(chosen).argmax(-1)
        said.append(int(chosen[0]))
    return said


def _used(team: Team, route: Route) -> list[torch.nn.Parameter]:
    """The form's parameters for this primary and its peers."""
    keys = {Link(peer, route.primary).key for peer in route.peers}
    return [p for n, p in team.form.named_parameters() if keys & set(n.split("."))]


def _median(values: np.ndarray) -> Estimate:
    ci = bootstrap_interval(lambda rows: np.median(values[rows], axis=1), len(values))
    return Estimate(value=float(np.median(values)), ci=ci)
