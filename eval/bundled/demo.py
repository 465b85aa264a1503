"""The demonstration: the system and its baselines on questions nobody trained on.

Generated questions are held out twice over (problems from the test split, half of the wordings
never trained on); the hand-written ones were made by no template and are reported by themselves.
Whatever is chosen (best single expert, best expert per skill) was chosen when the router was
fitted, on other questions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from eval.bundled.baselines import at_random, one_expert, oracle, per_skill, vote_all
from eval.cost_of_pass.figures import PolicyFigures, policy_figures
from eval.outcomes.matrix import MatrixQuery, OutcomeMatrix
from eval.questions import Question, handwritten, lab_questions
from experts.values import Arm, Completion
from orchestrator.conclave import Conclave
from orchestrator.drivers.calling import call_experts
from orchestrator.fitted import Fitted

QUESTIONS_PER_SKILL = 2
"""With trained wordings, and as many with held-out ones."""
SEED = 7


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoReport:
    """Figures on the generated questions, and on the hand-written ones."""

    generated: tuple[PolicyFigures, ...]
    handwritten: tuple[PolicyFigures, ...]
    shares: dict[str, float]
    """Share of the system's calls that went to each expert."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Progress, for a bar: ``done`` of ``total`` calls and answers."""

    name: str
    done: int
    total: int


def demo_questions() -> tuple[list[Question], list[Question]]:
    """Generated and hand-written test questions."""
    generated = [
        q
        for held_out in (False, True)
        for q in lab_questions(QUESTIONS_PER_SKILL, "test", held_out_wording=held_out, seed=SEED)
    ]
    return generated, handwritten("test")


async def run_demo(
    conclave: Conclave,
    fitted: Fitted,
    *,
    policies: Sequence[str],
    on_stage: Callable[[Stage], None] = lambda stage: None,
) -> DemoReport:
    """Ask everything, of the system and of each expert alone, and compare."""
    generated, by_hand = demo_questions()
    questions = [*generated, *by_hand]
    matrix, seconds_alone = await _matrix(conclave, questions, on_stage)
    answered = {}
    shares: dict[str, float] = {}
    for policy in policies:
        price = conclave.policies[policy].fallback_price_usd
        queries = [q.query(price) for q in questions]
        name = f"asking conclave/{policy}"
        on_stage(Stage(name, 0, len(queries)))
        started = time.perf_counter()
        results = await conclave.answer_many(
            queries,
            policy,
            source="demo",
            on_progress=lambda n, name=name: on_stage(Stage(name, n, len(questions))),  # type: ignore[misc]
        )
        seconds = time.perf_counter() - started
        correct = np.array(
            [
                q.score(r.answer.text) if r.answer.succeeded else 0.0
                for q, r in zip(questions, results, strict=True)
            ]
        )
        answered[policy] = correct, np.array([r.cost_usd for r in results]), seconds
        if not shares:
            calls = [c.call.arm.expert for r in results for c in r.answer.completions]
            shares = {n: calls.count(n) / max(1, len(calls)) for n in conclave.pool.names}
    figures = []
    for part in (slice(0, len(generated)), slice(len(generated), None)):
        outcomes = {
            **answered,
            **_baselines(
                matrix[np.arange(len(questions))[part]],
                seconds_alone,
                questions[part],
                fitted,
                conclave,
            ),
        }
        figures.append(
            tuple(
                policy_figures(
                    name,
                    correct[part] if name in answered else correct,
                    cost[part] if name in answered else cost,
                    seconds * (len(questions[part]) / len(questions)),
                )
                for name, (correct, cost, seconds) in outcomes.items()
            )
        )
    return DemoReport(generated=figures[0], handwritten=figures[1], shares=shares)


async def _matrix(
    conclave: Conclave, questions: Sequence[Question], on_stage: Callable[[Stage], None]
) -> tuple[OutcomeMatrix, np.ndarray]:
    """The matrix, and the seconds that asking each expert everything took."""
    names = conclave.pool.names
    columns: list[list[Completion]] = []
    seconds = []
    total = len(names) * len(questions)

    def record(completions: Sequence[Completion]) -> None:
        nobody = [None] * len(completions)
        conclave.ledger.add_calls(completions, nobody, versions=conclave.pool.versions)

    for k, name in enumerate(names):
        on_stage(Stage("asking each expert alone", k * len(questions), total))
        calls = [q.call(Arm(name)) for q in questions]
        started = time.perf_counter()
        columns.append(await call_experts(calls, conclave.experts, record))
        seconds.append(time.perf_counter() - started)
    on_stage(Stage("asking each expert alone", total, total))
    scores = [
        [q.score(c.text) if c.ok else 0.0 for q, c in zip(questions, column, strict=True)]
        for column in columns
    ]
    matrix = OutcomeMatrix(
        queries=tuple(
            MatrixQuery(
                query_id=q.query_id, task=str(q.skill), prompt=q.prompt, answer=q.answer,
                split=q.split,
            )
            for q in questions
        ),
        models=names,
        score=np.array(scores).T,
        pred=np.array([[c.answer for c in column] for column in columns], dtype=object).T,
        input_tokens=np.array([[c.usage.input_tokens for c in column] for column in columns]).T,
        output_tokens=np.array([[c.usage.output_tokens for c in column] for column in columns]).T,
        cost_usd=np.array([[c.cost_usd for c in column] for column in columns]).T,
    )  # fmt: skip
    return matrix, np.array(seconds)


def _baselines(
    matrix: OutcomeMatrix,
    seconds: np.ndarray,
    questions: Sequence[Question],
    fitted: Fitted,
    conclave: Conclave,
) -> dict[str, tuple[np.ndarray, np.ndarray, float]]:
    profiles = fitted.router.profiles_
    overall = dict(zip(profiles.arms, profiles.overall(), strict=True))
    mean, _ = profiles.posterior()
    best_of_skill = {
        skill: profiles.arms[int(mean[:, j].argmax())] for j, skill in enumerate(profiles.skills)
    }
    prices = {c.name: c.prices.input_usd_per_mtok for c in conclave.pool.cards}
    return {
        "best_single": one_expert(matrix, seconds, max(overall, key=lambda e: float(overall[e]))),
        "cheapest": one_expert(matrix, seconds, min(prices, key=lambda e: prices[e])),
        "random": at_random(matrix, seconds),
        "vote_all": vote_all(matrix, seconds),
        "best_per_skill": per_skill(
            matrix, seconds, [str(q.skill) for q in questions], best_of_skill
        ),
        "oracle": oracle(matrix, seconds),
    }


def run(conclave: Conclave, fitted: Fitted, **options: object) -> DemoReport:
    """``run_demo`` without an event loop."""
    return asyncio.run(run_demo(conclave, fitted, **options))  # type: ignore[arg-type]
