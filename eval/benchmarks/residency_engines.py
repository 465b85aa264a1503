"""Residency policies on real engines: the same questions, the same two slots, in one run.

All bundled experts wait for two vLLM engines. Policies take turns, each from the same start (the
same two experts loaded), so that they share whatever else the machine does. Every answer is
compared with the one that the expert gave when it was alone.

* **batch**: all questions at once, in a drawn order. Beside the policies: *by hand*, the same
  prompts, grouped, put straight to the engines, which is what vLLM itself needs; what our
  scheduling takes beyond that and beyond the swaps is its overhead. And *restarting*: our grouping
  with a new engine for every swap, as those do who cannot swap in place.
* **online**: questions come by themselves (Poisson); two of the experts, whose answers are the
  longest, are asked far more often than the other six. Rates are shares of what these engines can
  answer on this machine today, measured just before on the same kinds of questions, without a swap:
  a low one, one at which engines are seldom idle, and one at which they hardly ever are. Does who
  only loads into an idle slot still serve the others? How long does anybody wait until an engine
  has the question?
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from eval.benchmarks.engines_rig import Hand, Played, Rig, by_hand, calls_of, play_on_engines, rig
from experts.residency.policies.base import Policy
from experts.residency.policies.bounded import BoundedGrouping
from experts.residency.policies.collation import FifoCollation
from experts.residency.policies.first_come import first_come
from experts.residency.workloads import poisson_times
from experts.values import Call

OURS, FIRST_COME, COLLATION = "bounded grouping (ours)", "first-come + LRU", "FIFO collation"
RESTARTING = "ours, restarting"
GOAL_LOADS, GOAL_MAKESPAN, GOAL_RESTART, GOAL_OVERHEAD = 1 / 30, 1 / 8, 1 / 20, 0.05
GOAL_P99 = 0.5
GIVE_UP = 2.0
"""Times as long as questions come is how long after that a run goes on: it would take minutes more
to see first-come end, and tell nothing else."""

Tell = Callable[[str], None]
Policies = dict[str, Callable[[], Policy]]


@dataclass(frozen=True, kw_only=True, slots=True)
class OnEngines:
    """How much is run."""

    n_batch: int = 600
    n_rounds: int = 21
    """Of grouping by hand and of ours; first-come and restarting take minutes and have one."""
    first_come: bool = True
    restart: bool = True
    online: tuple[float, ...] = (0.03, 0.5, 0.9)
    """Questions a second, as shares of what the engines can answer; from few to many. Goals are
    about the last."""
    online_s: float = 30.0
    """That questions come."""
    n_capacity: int = 2000
    """Questions by which it is measured what the engines can answer."""
    max_wait_s: float = 10.0
    hot: tuple[str, str] = ("arithmetic", "lists")
    """They show their steps, so their answers take longest."""
    hot_share: float = 0.9
    n_slots: int = 2
    concurrency: int = 128


QUICK_ON_ENGINES = OnEngines(
    n_batch=40, n_rounds=1, restart=False, online=(0.3,), online_s=2.0, n_capacity=100
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Online:
    """One rate."""

    share: float
    """Of the capacity."""
    per_s: float
    n: int
    max_wait_s: float
    played: list[Played]


@dataclass(frozen=True, kw_only=True, slots=True)
class EnginesReport:
    """All of it; seconds on the clock."""

    seed: int
    n: int
    n_experts: int
    by_hand_s: list[float]
    """Makespan without the swaps, by round."""
    overhead: list[float]
    """How much longer ours took by round, each without its swaps (mean over slots)."""
    batch: list[Played]
    online: list[Online]
    capacity_per_s: float | None
    """Online questions that the engines answer in a second without swaps; None where none came."""
    swap_s: dict[str, float]
    """Median seconds of each way of swapping."""
    n_swaps: dict[str, int]
    ratios: dict[str, float]
    goals: dict[str, bool]


async def run_on_engines(
    python: Path,
    size: OnEngines,
    *,
    seed: int = 0,
    tell: Tell = lambda what: None,
) -> EnginesReport:
    """python: of an environment with vLLM."""
    tell(f"starting {size.n_slots} engines")
    async with rig(python, n_slots=size.n_slots, concurrency=size.concurrency) as engines:
        await engines.to_start()
        capacity, streams = await _streams(engines, size, seed, tell)
        online = [await _online(engines, size, stream, seed, tell) for stream in streams]
        batch, hands, n = await _batch(engines, size, seed, tell)
        return _report(engines, batch, hands, online, capacity, n, seed)


async def _batch(
    engines: Rig, size: OnEngines, seed: int, tell: Tell
) -> tuple[list[Played], list[Hand], int]:
    even = dict.fromkeys(engines.experts, 1 / len(engines.experts))
    calls = calls_of(even, size.n_batch, seed=seed)
    tell("batch: each expert alone")
    alone = await by_hand(engines, calls)  # engines and tokenizers are warm after it
    played: list[Played] = []
    hands: list[Hand] = []

    async def play(name: str, policy: Policy) -> None:
        tell(f"batch: {name}")
        one = await play_on_engines(engines, name, policy, calls, alone.texts)
        tell(_said(one))
        played.append(one)

    for number in range(size.n_rounds):
        tell("batch: grouped by hand")
        await engines.to_start()
        hands.append(await by_hand(engines, calls, alone))
        await play(OURS, BoundedGrouping())
        if number == 0 and size.first_come:
            await play(FIRST_COME, first_come())
    if size.restart:
        for slot in engines.fleet.slots.values():
            slot.settings = replace(slot.settings, in_place=False)
        await play(RESTARTING, BoundedGrouping())
    return played, hands, len(calls)


@dataclass(frozen=True, slots=True)
class _Stream:
    """Questions that come by themselves."""

    share: float
    per_s: float
    calls: list[Call]
    alone: dict[int, str]
    """What each one's expert answers when it is alone."""


async def _streams(
    engines: Rig, size: OnEngines, seed: int, tell: Tell
) -> tuple[float | None, list[_Stream]]:
    """What the engines can answer in a second, and the streams."""
    if not size.online:
        return None, []
    n_others = len(engines.experts) - len(size.hot)
    shares = {
        name: size.hot_share / len(size.hot)
        if name in size.hot
        else (1 - size.hot_share) / n_others
        for name in engines.experts
    }
    tell("what the engines can answer in a second")
    calls = calls_of(shares, size.n_capacity, seed=seed)
    hand = await by_hand(engines, calls)
    # Of the seconds of serving, not of the whole: who shares a slot with whom is not asked here.
    capacity = len(calls) * size.n_slots / sum(hand.serving_s.values())
    streams = []
    for share in size.online:
        per_s = share * capacity
        calls = calls_of(shares, round(per_s * size.online_s), seed=seed)
        tell(f"{len(calls)} questions to come online: each expert alone")
        hand = await by_hand(engines, calls)
        streams.append(_Stream(share, per_s, calls, hand.texts))
    return capacity, streams


async def _online(engines: Rig, size: OnEngines, stream: _Stream, seed: int, tell: Tell) -> Online:
    at_s = poisson_times(len(stream.calls), stream.per_s, seed=seed)
    policies: Policies = {
        OURS: lambda: BoundedGrouping(size.max_wait_s),
        COLLATION: FifoCollation,
        FIRST_COME: first_come,
    }
    played = []
    for name, make in policies.items():
        tell(f"online, {stream.per_s:.3g} a second: {name}")
        one = await play_on_engines(
            engines, name, make(), stream.calls, stream.alone,
            at_s=[float(t) for t in at_s], give_up_s=GIVE_UP * float(at_s[-1]),
        )  # fmt: skip
        tell(_said(one))
        played.append(one)
    return Online(
        share=stream.share,
        per_s=stream.per_s,
        n=len(stream.calls),
        max_wait_s=size.max_wait_s,
        played=played,
    )


def _report(
    engines: Rig,
    batch: list[Played],
    hands: list[Hand],
    online: list[Online],
    capacity_per_s: float | None,
    n: int,
    seed: int,
) -> EnginesReport:
    def makespan_s(policy: str) -> float:
        return statistics.median(p.makespan_s for p in batch if p.policy == policy)

    def n_loads(policy: str) -> float:
        return statistics.median(p.n_loads for p in batch if p.policy == policy)

    ours = [p for p in batch if p.policy == OURS]
    overhead = [
        (p.makespan_s - p.load_s / len(engines.fleet.slots)) / hand.without_loads_s - 1
        for p, hand in zip(ours, hands, strict=True)
    ]
    ratios: dict[str, float] = {}
    everything = [*batch, *(p for o in online for p in o.played)]
    goals = {
        "the same answers": not any(p.n_other_answers or p.n_failed for p in everything),
        "overhead at most 5 %": statistics.median(overhead) <= GOAL_OVERHEAD,
    }
    if online:
        last = online[-1]
        goals |= {
            "nobody waits beyond the bound": all(
                _of(o, OURS).wait_max_s <= o.max_wait_s for o in online
            ),
            "collation's longest wait is beyond it": (
                _of(last, COLLATION).wait_max_s > last.max_wait_s
            ),
            "p99 wait at most half of first-come's": (
                _of(last, OURS).wait_p99_s <= GOAL_P99 * _of(last, FIRST_COME).wait_p99_s
            ),
        }
    if any(p.policy == FIRST_COME for p in batch):
        loads, ratio = (
            n_loads(OURS) / n_loads(FIRST_COME),
            makespan_s(OURS) / makespan_s(FIRST_COME),
        )
        ratios |= {"loads to first-come's": loads, "makespan to first-come's": ratio}
        goals["loads at most 1/30 of first-come's"] = loads <= GOAL_LOADS
        goals["makespan at most 1/8 of first-come's"] = ratio <= GOAL_MAKESPAN
    if any(p.policy == RESTARTING for p in batch):
        ratio = makespan_s(OURS) / makespan_s(RESTARTING)
        ratios["makespan to restarting's"] = ratio
        goals["makespan at most 1/20 of restarting's"] = ratio <= GOAL_RESTART
    record = engines.fleet.record
    ways = sorted({s.way for s in record.swaps if s.ok})
    return EnginesReport(
        seed=seed,
        n=n,
        n_experts=len(engines.experts),
        by_hand_s=[hand.without_loads_s for hand in hands],
        overhead=overhead,
        batch=batch,
        online=online,
        capacity_per_s=capacity_per_s,
        swap_s={w: statistics.median(record.seconds(w)) for w in ways},
        n_swaps={w: len(record.seconds(w)) for w in ways},
        ratios=ratios,
        goals=goals,
    )


def _said(played: Played) -> str:
    """At once: a run takes long, and may not come to its end."""
    return (
        f"  {played.makespan_s:.1f} s, {played.n_loads} loads, "
        f"p99 wait {played.wait_p99_s:.1f} s, longest {played.wait_max_s:.1f} s"
    )


def _of(online: Online, policy: str) -> Played:
    return next(p for p in online.played if p.policy == policy)
