"""Bundled experts on real vLLM engines, and one policy playing one stream of questions on them.

Used by ``residency_engines``, which says what is compared. Everything goes through the fleet that
serves people; only ``by_hand`` puts prompts straight to the engines, to learn what vLLM itself
needs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np

from eval.questions import lab_questions
from experts.bundled import bundled_models
from experts.lab.questions import skills_of
from experts.residency.policies.base import Policy
from experts.residency.summary import quantile
from experts.values import Arm, Call
from experts.vllm.asking import generate
from experts.vllm.expert import VLLMExpert
from experts.vllm.fleet import Fleet
from experts.vllm.job import Job
from experts.vllm.slot import EngineSlot
from orchestrator.config import BundledExperts, Config, SlotSection, VLLMSettings
from orchestrator.vllm_pool import experts_on_vllm


@dataclass(frozen=True, kw_only=True, slots=True)
class Played:
    """One policy, once. Waits are seconds from arrival until an engine was given the question."""

    policy: str
    makespan_s: float
    n_loads: int
    load_s: float
    """Sum over slots."""
    wait_p50_s: float
    wait_p99_s: float
    wait_max_s: float
    n_other_answers: int
    """Answers that are not those of the expert alone."""
    n_failed: int
    n_given_up: int
    """Not answered when the run was ended; their waits are counted up to then."""


@dataclass(frozen=True, slots=True)
class Rig:
    """Engines that run, their experts by name, and how many calls an engine is given at once."""

    fleet: Fleet
    experts: dict[str, VLLMExpert]
    concurrency: int

    @property
    def start(self) -> dict[str, str]:
        """What each slot holds when a policy begins: the first experts, one each."""
        return dict(zip(self.fleet.slots, self.experts, strict=False))

    async def to_start(self) -> None:
        loads = (asyncio.to_thread(self.fleet.load, m, s) for s, m in self.start.items())
        await asyncio.gather(*loads)

    async def jobs(self, calls: Sequence[Call]) -> list[Job]:
        """Put into tokens, which is part of no policy."""
        now = time.perf_counter()
        made = [(await self.experts[c.arm.expert].jobs([c], now))[0] for c in calls]
        return [cast(Job, job) for job in made]


@asynccontextmanager
async def rig(python: Path, *, n_slots: int, concurrency: int) -> AsyncIterator[Rig]:
    """python: of an environment with vLLM. All engines have been ended when it is left.

    In a folder of its own, so that nothing is expected of swaps but what this run measured."""
    with TemporaryDirectory(prefix="conclave-bench-") as folder:
        async with _rig_in(Path(folder), python, n_slots, concurrency) as made:
            yield made


@asynccontextmanager
async def _rig_in(
    data_dir: Path, python: Path, n_slots: int, concurrency: int
) -> AsyncIterator[Rig]:
    section = VLLMSettings(
        python=python, slots=[SlotSection(concurrency=concurrency) for _ in range(n_slots)]
    )
    settings = BundledExperts(kind="bundled", runs_on="vllm")
    made = experts_on_vllm(Config(data_dir=data_dir, vllm=section), [settings])
    experts = {e.card.name: cast(VLLMExpert, e) for e in made[id(settings)]}
    fleet = next(iter(experts.values())).fleet
    fleet.record.keep_all()
    try:
        yield Rig(fleet, experts, concurrency)
    finally:
        await asyncio.to_thread(fleet.close)


def calls_of(shares: Mapping[str, float], n: int, *, seed: int) -> list[Call]:
    """About ``n`` calls, each expert's of its own skills and none twice, in a drawn order.

    shares: of each expert, summing to 1."""
    categories = {m.name: m.categories for m in bundled_models()}
    calls: list[Call] = []
    for name, share in shares.items():
        skills = [s.name for s in skills_of(categories[name])]
        wanted = max(1, round(n * share))
        each = -(-wanted // len(skills))
        questions = lab_questions(each, "val", held_out_wording=False, seed=seed, skills=skills)
        calls += [q.call(Arm(name)) for q in questions[:wanted]]
    order = np.random.default_rng(seed).permutation(len(calls))
    return [calls[i] for i in order]


@dataclass(frozen=True, slots=True)
class Hand:
    """Everything grouped by hand, once."""

    texts: dict[int, str]
    """By call."""
    serving_s: dict[str, float]
    """By expert, from the first of its prompts to the last of its answers."""
    makespan_s: float
    load_s: float
    """Mean over slots."""

    @property
    def without_loads_s(self) -> float:
        return self.makespan_s - self.load_s


async def by_hand(rig: Rig, calls: Sequence[Call], before: Hand | None = None) -> Hand:
    """Experts are dealt out to slots, and each one's prompts are put to the engine at once.

    before: an earlier time, whose seconds tell how to deal so that slots end together (longest
    first, each to the slot that has least); without one they are dealt in turn."""
    numbers: dict[str, list[int]] = {name: [] for name in rig.experts}
    for i, call in enumerate(calls):
        numbers[call.arm.expert].append(i)
    jobs = {name: await rig.jobs([calls[i] for i in numbers[name]]) for name in numbers}
    texts: dict[int, str] = {}
    serving_s: dict[str, float] = {}
    n_before = len(rig.fleet.record.swaps)

    async def lane(slot_name: str, mine: Sequence[str]) -> None:
        slot = rig.fleet.slots[slot_name]
        for name in mine:
            await asyncio.to_thread(rig.fleet.load, name, slot_name)
            started = time.perf_counter()
            found = await rig.fleet.outside(_answers(slot, name, jobs[name], rig.concurrency))
            serving_s[name] = time.perf_counter() - started
            texts.update(zip(numbers[name], found, strict=True))

    started = time.perf_counter()
    dealt = _dealt(list(rig.experts), list(rig.fleet.slots), before.serving_s if before else {})
    await asyncio.gather(*(lane(s, mine) for s, mine in dealt.items()))
    makespan_s = time.perf_counter() - started
    swaps = list(rig.fleet.record.swaps)[n_before:]
    return Hand(texts, serving_s, makespan_s, sum(s.seconds for s in swaps) / len(rig.fleet.slots))


def _dealt(
    names: Sequence[str], slots: Sequence[str], serving_s: Mapping[str, float]
) -> dict[str, list[str]]:
    """Names by slot. What slots hold at the start stays where it is: the first names, one each."""
    dealt = {slot: [name] for slot, name in zip(slots, names, strict=False)}
    total_s = {slot: sum(serving_s.get(n, 1.0) for n in mine) for slot, mine in dealt.items()}
    for name in sorted(names[len(slots) :], key=lambda n: -serving_s.get(n, 1.0)):
        slot = min(total_s, key=lambda s: total_s[s])
        dealt[slot].append(name)
        total_s[slot] += serving_s.get(name, 1.0)
    return dealt


async def _answers(
    slot: EngineSlot, model: str, jobs: Sequence[Job], concurrency: int
) -> list[str]:
    places = asyncio.Semaphore(concurrency)

    async def one(job: Job) -> str:
        async with places:
            job.take(await generate(slot.control, slot.served_name(model), job.asked))
        job.row.end_at_length()
        return job.row.text

    return list(await asyncio.gather(*map(one, jobs)))


async def play_on_engines(
    rig: Rig,
    name: str,
    policy: Policy,
    calls: Sequence[Call],
    alone: dict[int, str],
    *,
    at_s: Sequence[float] | None = None,
    give_up_s: float | None = None,
) -> Played:
    """alone: the right texts by call. at_s: when each call comes, from the start, ascending; None
    for all at once, and nothing after them, as in a batch. give_up_s: the run is ended so long
    after the last came, whoever waits still."""
    await rig.to_start()
    rig.fleet.use(policy)
    for expert in rig.experts.values():
        expert.expect_more(at_s is not None)
    jobs = await rig.jobs(calls)
    n_before = len(rig.fleet.record.swaps)
    came_s = await _submit(rig.fleet, jobs, at_s)
    done = await asyncio.to_thread(wait, [job.done for job in jobs], give_up_s)
    makespan_s = time.monotonic() - came_s[0]
    ended_s = time.monotonic()
    given_up = {job.request_id for job in jobs if job.done in done.not_done}
    if given_up:
        rig.fleet.cancel([job for job in jobs if job.request_id in given_up])
        await asyncio.to_thread(wait, [job.done for job in jobs])
    waits = sorted(
        (job.started_s if job.started_s is not None else ended_s) - came
        for job, came in zip(jobs, came_s, strict=True)
    )
    swaps = list(rig.fleet.record.swaps)[n_before:]
    return Played(
        policy=name,
        makespan_s=makespan_s,
        n_loads=len(swaps),
        load_s=sum(s.seconds for s in swaps),
        wait_p50_s=quantile(waits, 0.5),
        wait_p99_s=quantile(waits, 0.99),
        wait_max_s=waits[-1],
        n_other_answers=sum(
            job.row.text != alone[i] for i, job in enumerate(jobs) if job.request_id not in given_up
        ),
        n_failed=sum(job.error is not None for job in jobs),
        n_given_up=len(given_up),
    )


async def _submit(fleet: Fleet, jobs: Sequence[Job], at_s: Sequence[float] | None) -> list[float]:
    """When each came, on the monotonic clock."""
    started = time.monotonic()
    if at_s is None:
        fleet.submit(jobs)
        return [started] * len(jobs)
    came = []
    for job, at in zip(jobs, at_s, strict=True):
        if (left_s := started + at - time.monotonic()) > 0:
            await asyncio.sleep(left_s)
        fleet.submit([job])
        came.append(time.monotonic())
    return came
