"""What graders share that ask a model: the case, the judgement, the way to a driver.

A judge grader is a generator without I/O, as strategies are: it yields calls, is sent their
completions, and returns a judgement. Which calls, and what is made of the replies, is in ``judge``
and ``checklist``; who makes the calls and writes down what they cost is the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

from experts.digests import prompt_digest
from experts.expert import Pool
from experts.values import NO_LIMITS, Arm, Call, Completion, Limits, Message, Sampling
from orchestrator.answer import Answer
from orchestrator.drivers.calling import Experts, Recorder
from orchestrator.drivers.run import Run
from orchestrator.drivers.wave import run_wave
from orchestrator.evidence import material
from orchestrator.steps import Steps


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What a judge is asked about."""

    query_id: str
    question: str
    answer: str
    reference: str
    """The right answer; for a pairwise judge any other answer; for a checklist its JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What came of judging."""

    score: float | None
    """In [0, 1]. None where the judge failed or could not be understood: that says nothing about
    the answer, so it is no 0."""
    figures: tuple[tuple[str, float], ...] = ()
    """What the score is made of, such as precision and recall."""
    completions: tuple[Completion, ...] = ()
    """Every call that was made for it, in order."""
    notes: tuple[str, ...] = ()

    @property
    def cost_usd(self) -> float:
        return sum(c.cost_usd for c in self.completions)


Judging = Generator[Sequence[Call], Sequence[Completion], Judgement]
JudgeGrader = Callable[[Case, Arm], Judging]
"""Takes the case and the arm that is to judge it."""


def ask_judge(
    case: Case, judge: Arm, *, task: str, evidence: Mapping[str, str], form: str, max_tokens: int
) -> Call:
    """A greedy call. ``task`` says what to do, ``form`` how to reply
    (``orchestrator.evidence``)."""
    return put_to_judge(case, judge, material(task, evidence, form), max_tokens=max_tokens)


def put_to_judge(case: Case, judge: Arm, messages: tuple[Message, ...], *, max_tokens: int) -> Call:
    """A greedy call with this prompt.

    The query id holds a hash of it: a judge may be an expert of the same pool, and its verdict on
    an answer must not be found when its own answer to the question is looked up.
    """
    return Call(
        query_id=f"{case.query_id}/judge-{prompt_digest(messages)}",
        arm=judge,
        messages=messages,
        sampling=Sampling(max_tokens=max_tokens),
        purpose="judge",
    )


def not_judged(completions: Sequence[Completion], why: str) -> Judgement:
    """No score, and why; failed calls are named after it."""
    failures = tuple(f"{c.call.arm} failed: {c.error}" for c in completions if not c.ok)
    return Judgement(score=None, completions=tuple(completions), notes=(why, *failures))


def as_steps(judging: Judging) -> Steps:
    """A judging as a strategy at work, for any driver: the answer's text is the score, and so is
    its probability of being right, as far as the judge can tell."""
    return _answered(judging, [])


def _answered(judging: Judging, kept: list[Judgement]) -> Steps:
    judgement = yield from judging
    kept.append(judgement)
    score = "" if judgement.score is None else f"{judgement.score:g}"
    return Answer(
        text=score,
        answer=score,
        p_correct=judgement.score,
        contributors=tuple({c.call.arm: None for c in judgement.completions if c.ok}),
        completions=judgement.completions,
        notes=judgement.notes,
    )


async def run_judgings(
    judgings: Sequence[Judging],
    experts: Experts,
    record: Recorder,
    *,
    limits: Limits = NO_LIMITS,
    pool: Pool | None = None,
) -> list[Judgement]:
    """Judgements in the order of the judgings, whose calls are pooled: one batch a judge and wave.

    record: told of every completion before it is used; give it the ledger's ``add_calls``, so that
    what judging costs is charged. limits: of each judging. pool: the judges' prices, where there
    is a limit on dollars.
    """
    kept: list[list[Judgement]] = [[] for _ in judgings]
    runs = [Run(_answered(j, k), limits, pool) for j, k in zip(judgings, kept, strict=True)]
    await run_wave(runs, experts, record)
    return [judgement for [judgement] in kept]
