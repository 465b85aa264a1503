"""Residency policies on real engines: the same questions, the same two slots, in one run.

All bundled experts wait for two vLLM engines; all questions are asked at once, in a drawn order.
Policies take turns, each from the same start (the same two experts loaded), so that they share
whatever else the machine does. Beside them:

* *by hand*: the same prompts, grouped, put straight to the engines: what vLLM itself needs. What
  our scheduling takes beyond that and beyond the swaps is its overhead.
* *restart*: our grouping with a new engine for every swap, as those do who cannot swap in place.

Every answer is compared with the one that the expert gave when it was alone.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from eval.questions import lab_questions
from experts.bundled import bundled_models
from experts.lab.questions import skills_of
from experts.residency.policies.base import Policy
from experts.residency.policies.bounded.policy import BoundedGrouping
from experts.residency.policies.first_come import first_come
from experts.values import Arm, Call
from experts.vllm.asking import generate
from experts.vllm.expert import VLLMExpert
from experts.vllm.fleet import Fleet
from experts.vllm.job import Job
from experts.vllm.slot import EngineSlot
from orchestrator.config import BundledExperts, Config, SlotSection, VLLMSettings
from orchestrator.vllm_pool import experts_on_vllm

OURS, FIRST_COME, RESTART = "bounded grouping (ours)", "first come, LRU", "ours, restarting"
GOAL_LOADS, GOAL_MAKESPAN, GOAL_RESTART, GOAL_OVERHEAD = 1 / 30, 1 / 8, 1 / 20, 0.05

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Played:
    """One policy, once."""

    policy: str
    makespan_s: float
    n_loads: int
    load_s: float
    """Sum over slots."""
    wait_p50_s: float
    wait_max_s: float
    n_other_answers: int
    """Answers that are not those of the expert alone."""
    n_failed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class EnginesReport:
    """All of it; seconds on the clock."""

    n: int
    n_experts: int
    by_hand_s: float
    """The busier slot's serving, without swaps, best of the rounds."""
    overhead: float
    """(makespan - that slot's swaps - by hand) / by hand, of ours at its best."""
    played: list[Played]
    swap_s: dict[str, float]
    """Median seconds of each way."""
    ratios: dict[str, float]
    goals: dict[str, bool]


def run_on_engines(
    python: Path,
    data_dir: Path,
    *,
    n: int = 600,
    n_rounds: int = 2,
    restart: bool = True,
    seed: int = 0,
    tell: Tell = lambda what: None,
) -> EnginesReport:
    """python: of an environment with vLLM."""
    section = VLLMSettings(python=python, slots=[SlotSection(), SlotSection()])
    settings = BundledExperts(kind="bundled", runs_on="vllm")
    made = experts_on_vllm(Config(data_dir=data_dir, vllm=section), [settings])
    experts = {e.card.name: cast(VLLMExpert, e) for e in made[id(settings)]}
    fleet = next(iter(experts.values())).fleet
    try:
        return asyncio.run(_run(fleet, experts, n, n_rounds, restart, seed, tell))
    finally:
        fleet.close()


async def _run(
    fleet: Fleet,
    experts: dict[str, VLLMExpert],
    n: int,
    n_rounds: int,
    restart: bool,
    seed: int,
    tell: Tell,
) -> EnginesReport:
    calls = _calls(list(experts), n, seed)
    tell("starting two engines")
    first, second, *_ = experts
    start = {"slot0": first, "slot1": second}
    await asyncio.gather(*(asyncio.to_thread(fleet.load, m, s) for s, m in start.items()))
    tell("each expert alone")
    await _by_hand(fleet, experts, calls)  # the first answers warm engines and tokenizers up
    alone: dict[int, str] = {}
    hand_s: list[float] = []
    played: list[Played] = []
    for number in range(n_rounds):
        tell(f"round {number + 1}: grouped by hand")
        texts, seconds = await _by_hand(fleet, experts, calls)
        alone = alone or texts
        hand_s.append(seconds)
        policies: list[tuple[str, Callable[[], Policy]]] = [
            (OURS, BoundedGrouping),
            (FIRST_COME, first_come),
        ]
        for name, policy in policies:
            tell(f"round {number + 1}: {name}")
            played.append(await _play(name, policy(), fleet, experts, calls, alone, start))
    if restart:
        tell("ours, with a restart for every swap")
        for slot in fleet.slots.values():
            slot.settings = replace(slot.settings, in_place=False)
        grouping = BoundedGrouping()
        played.append(await _play(RESTART, grouping, fleet, experts, calls, alone, start))
    return _report(fleet, played, len(calls), len(experts), min(hand_s))


def _calls(names: Sequence[str], n: int, seed: int) -> list[Call]:
    """As many to each expert, of its own skills, in a drawn order."""
    categories = {m.name: m.categories for m in bundled_models()}
    calls: list[Call] = []
    for name in names:
        skills = [s.name for s in skills_of(categories[name])]
        wanted = n // len(names)
        each = -(-wanted // len(skills))
        questions = lab_questions(each, "val", held_out_wording=False, seed=seed, skills=skills)
        calls += [q.call(Arm(name)) for q in questions[:wanted]]
    order = np.random.default_rng(seed).permutation(len(calls))
    return [calls[i] for i in order]


async def _jobs(experts: dict[str, VLLMExpert], calls: Sequence[Call]) -> list[Job]:
    made = [(await experts[c.arm.expert].jobs([c], time.perf_counter()))[0] for c in calls]
    return [cast(Job, job) for job in made]


async def _by_hand(
    fleet: Fleet, experts: dict[str, VLLMExpert], calls: Sequence[Call]
) -> tuple[dict[int, str], float]:
    """Texts by call, and the seconds of serving of the busier slot; half of the experts each."""
    texts: dict[int, str] = {}
    names = list(experts)

    async def share(slot_name: str, mine: Sequence[str]) -> float:
        serving_s = 0.0
        for name in mine:
            await asyncio.to_thread(fleet.load, name, slot_name)
            numbers = [i for i, c in enumerate(calls) if c.arm.expert == name]
            jobs = await _jobs(experts, [calls[i] for i in numbers])
            started = time.perf_counter()
            found = await fleet.outside(_answers(fleet.slots[slot_name], name, jobs))
            serving_s += time.perf_counter() - started
            texts.update(zip(numbers, found, strict=True))
        return serving_s

    half = len(names) // 2
    seconds = await asyncio.gather(share("slot0", names[:half]), share("slot1", names[half:]))
    return texts, max(seconds)


async def _answers(slot: EngineSlot, model: str, jobs: Sequence[Job]) -> list[str]:
    places = asyncio.Semaphore(SlotSection().concurrency)

    async def one(job: Job) -> str:
        async with places:
            job.take(await generate(slot.control, slot.served_name(model), job.asked))
        job.row.end_at_length()
        return job.row.text

    return list(await asyncio.gather(*map(one, jobs)))


async def _play(
    name: str,
    policy: Policy,
    fleet: Fleet,
    experts: dict[str, VLLMExpert],
    calls: Sequence[Call],
    alone: dict[int, str],
    start: dict[str, str],
) -> Played:
    await asyncio.gather(*(asyncio.to_thread(fleet.load, m, s) for s, m in start.items()))
    fleet.use(policy)
    jobs = await _jobs(experts, calls)
    n_before = len(fleet.record.swaps)
    ended: dict[str, float] = {}
    for job in jobs:
        job.done.add_done_callback(
            lambda _, job=job: ended.setdefault(job.request_id, time.perf_counter())  # type: ignore[misc]
        )
    started = time.perf_counter()
    fleet.submit(jobs)
    await asyncio.to_thread(wait, [job.done for job in jobs])
    makespan_s = time.perf_counter() - started
    waits = [ended[job.request_id] - started for job in jobs]
    swaps = fleet.record.swaps[n_before:]
    return Played(
        policy=name,
        makespan_s=makespan_s,
        n_loads=len(swaps),
        load_s=sum(s.seconds for s in swaps),
        wait_p50_s=statistics.median(waits),
        wait_max_s=max(waits),
        n_other_answers=sum(job.row.text != alone[i] for i, job in enumerate(jobs)),
        n_failed=sum(job.error is not None for job in jobs),
    )


def _report(
    fleet: Fleet, played: list[Played], n: int, n_experts: int, by_hand_s: float
) -> EnginesReport:
    def best(policy: str) -> Played:
        return min((p for p in played if p.policy == policy), key=lambda p: p.makespan_s)

    ours, others = best(OURS), best(FIRST_COME)
    overhead = (ours.makespan_s - ours.load_s / len(fleet.slots) - by_hand_s) / by_hand_s
    ratios = {
        "loads to first come": ours.n_loads / others.n_loads,
        "makespan to first come": ours.makespan_s / others.makespan_s,
    }
    goals = {
        "the same answers": not any(p.n_other_answers or p.n_failed for p in played),
        "loads to first come": ratios["loads to first come"] <= GOAL_LOADS,
        "makespan to first come": ratios["makespan to first come"] <= GOAL_MAKESPAN,
        "overhead": overhead <= GOAL_OVERHEAD,
    }
    if any(p.policy == RESTART for p in played):
        ratios["makespan to restarts"] = ours.makespan_s / best(RESTART).makespan_s
        goals["makespan to restarts"] = ratios["makespan to restarts"] <= GOAL_RESTART
    ways = {s.way for s in fleet.record.swaps}
    return EnginesReport(
        n=n,
        n_experts=n_experts,
        by_hand_s=by_hand_s,
        overhead=overhead,
        played=played,
        swap_s={w: statistics.median(s) for w in ways if (s := fleet.record.seconds(w))},
        ratios=ratios,
        goals=goals,
    )


def engines_object(report: EnginesReport) -> dict[str, Any]:
    """JSON-ready."""
    return asdict(report)
