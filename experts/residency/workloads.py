"""Requests for the virtual clock: who asks whom for what, and when. Seeded; runs repeat exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experts.residency.values import Model, Waiting


def zipf_shares(n: int, exponent: float) -> np.ndarray:
    """Popularity of n models, (n,), summing to 1: the k-th has a share proportional to
    k^-exponent. 0 is uniform, 1 is usual of what people ask for."""
    weights = np.arange(1, n + 1, dtype=float) ** -exponent
    return np.asarray(weights / weights.sum())


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What is asked for, without when."""

    models: Sequence[str]
    shares: np.ndarray
    """(n_models,), summing to 1."""
    service_s: Sequence[float]
    """Mean seconds of a request on each model."""
    service_spread: float = 0.5
    """Sigma of the log-normal around the mean; 0 for constant seconds."""
    callers: Sequence[str] = ("",)
    caller_shares: Sequence[float] = (1.0,)


def requests_at(times_s: np.ndarray, demand: Demand, *, seed: int) -> list[Waiting]:
    """A request at each time, drawn from the demand."""
    rng = np.random.default_rng(seed)
    n, sigma = len(times_s), demand.service_spread
    models = rng.choice(len(demand.models), size=n, p=demand.shares)
    callers = rng.choice(len(demand.callers), size=n, p=list(demand.caller_shares))
    # exp(N(-sigma^2 / 2, sigma)) has mean 1.
    factors = np.exp(rng.normal(-sigma * sigma / 2, sigma, size=n)) if sigma else np.ones(n)
    return [
        Waiting(
            request_id=f"r{i}",
            model=demand.models[m],
            arrival_s=float(t),
            service_s=float(demand.service_s[m] * f),
            caller=demand.callers[c],
        )
        for i, (t, m, c, f) in enumerate(zip(times_s, models, callers, factors, strict=True))
    ]


def poisson_times(n: int, per_s: float, *, seed: int) -> np.ndarray:
    """(n,) arrival times in seconds, ascending."""
    return np.cumsum(np.random.default_rng([seed, 1]).exponential(1 / per_s, size=n))


def bursty_times(
    n: int, per_s: float, *, burst: float = 5.0, burst_s: float = 20.0, calm_s: float = 80.0,
    seed: int,
) -> np.ndarray:  # fmt: skip
    """(n,) times of a Markov-modulated Poisson process with two states, of mean rate ``per_s``.

    In a burst requests come ``burst`` times as often as in the calm; both last exponentially long,
    with these means."""
    rng = np.random.default_rng([seed, 2])
    calm_rate = per_s * (burst_s + calm_s) / (burst * burst_s + calm_s)
    times: list[float] = []
    now, in_burst = 0.0, False
    while len(times) < n:
        lasts = rng.exponential(burst_s if in_burst else calm_s)
        rate = calm_rate * (burst if in_burst else 1.0)
        times += list(now + np.sort(rng.uniform(0, lasts, size=rng.poisson(rate * lasts))))
        now, in_burst = now + lasts, not in_burst
    return np.array(times[:n])


def self_exciting_times(
    n: int, per_s: float, *, branching: float = 0.6, decay_s: float = 10.0, seed: int
) -> np.ndarray:
    """(n,) times of a Hawkes process with exponential kernel, of mean rate ``per_s``.

    Each request brings ``branching`` further ones on average (in [0, 1)), after ``decay_s`` seconds
    on average. Drawn as a branching process, so exactly (Hawkes and Oakes, 1974)."""
    rng = np.random.default_rng([seed, 3])
    # Roots before time 0, whose descendants are there from the start: else it would begin calm.
    warm_s = 5 * decay_s / (1 - branching)
    root_rate = per_s * (1 - branching)
    until_s = 1.5 * n / per_s + 10 * decay_s
    n_roots = rng.poisson(root_rate * (warm_s + until_s))
    generation = rng.uniform(-warm_s, until_s, size=n_roots)
    times = [generation]
    while len(generation):
        generation = np.repeat(generation, rng.poisson(branching, size=len(generation)))
        generation = generation + rng.exponential(decay_s, size=len(generation))
        times.append(generation)
    after = np.sort(np.concatenate(times))
    after = after[(after >= 0) & (after <= until_s)]
    if len(after) < n:  # a calm draw: rare, and longer is as good
        return self_exciting_times(
            n, per_s, branching=branching, decay_s=decay_s, seed=seed + 1_000_003
        )
    return np.asarray(after[:n])


def experts_of(
    n: int, total_parameters: float, *, largest: float = 70e9, seed: int = 0
) -> list[Model]:
    """Models of one to 70 billion parameters, ``total_parameters`` in all.

    Sizes are those that open weights come in; they are drawn, then scaled to the total. Up to 15 B
    in 16 bits, above in 8 (so the largest is 70 GB). Popularity is not tied to size."""
    rng = np.random.default_rng([seed, 4])
    usual = np.array([1, 1.5, 3, 4, 7, 8, 9, 12, 14, 27, 32, 70]) * 1e9
    often = np.array([10, 8, 14, 8, 24, 24, 6, 6, 8, 3, 3, 1.0])
    sizes = np.sort(rng.choice(usual, size=n, p=often / often.sum()))
    sizes[-1], sizes[0] = largest, 1e9
    inner = sizes[1:-1] * (total_parameters - sizes[0] - sizes[-1]) / sizes[1:-1].sum()
    sizes[1:-1] = np.clip(inner, 1e9, largest)
    rng.shuffle(sizes)
    return [
        Model(name=f"e{i:03d}-{p / 1e9:.1f}b", n_bytes=int(p * (2 if p <= 15e9 else 1)))
        for i, p in enumerate(sizes)
    ]
