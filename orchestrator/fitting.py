"""Fitting: from recorded outcomes to a router, its calibration, and the outlook of every plan.

Nothing is judged on what it was fitted on. Router scores are predicted by cross-fitting; so is the
confidence in answers; the plans are replayed on those; and for general questions everything is
repeated with the question's whole category left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from experts.errors import DataError, NotFitted, did_you_mean
from experts.expert import Pool
from experts.values import NO_LIMITS, Arm, Completion, Query
from orchestrator.composers import RememberedComposer, fit_composers, ordered
from orchestrator.config import Config
from orchestrator.drivers.replay import Recording, run_replay
from orchestrator.drivers.run import Run
from orchestrator.fitted import Fitted
from orchestrator.keywords import taxonomy_vectors
from orchestrator.labelling import label_calls
from orchestrator.learning.history import FitHistory
from orchestrator.ledger import Ledger, RecordedCall
from orchestrator.pool import make_experts
from orchestrator.strategies import COMPOSE, make_strategy
from routers.calibration import expected_calibration_error
from routers.category import CategoryRouter, cross_fit, fold_rows
from routers.competency import Competency
from routers.confidence import AnswerConfidence
from routers.outcomes import Features, Outcomes
from routers.plans import GENERAL, Plan, PlanOutlooks, ReplayTally
from routers.scores import Scores
from routers.shortcut import Shortcut
from skills.annotators import DESCRIPTORS, KEYWORDS, NEIGHBOURS, AnnotatorKind
from skills.embedders import Embedder, make_embedder
from skills.taxonomy import Taxonomy

MENU: tuple[Plan, ...] = (
    Plan.of("single"),
    Plan.of("cascade", stop_at=0.8),
    Plan.of("cascade", stop_at=0.9),
    Plan.of("cascade", stop_at=0.97),
    Plan.of("recruit", k=2),
    Plan.of("recruit", k=3),
    Plan.of("recruit_top_p", p=0.6, k=4),
    Plan.of("recruit_by_skill", k=3, distinct=1),
    Plan.of("agreement", agree=2, most=4),
    Plan.of("frugal", stop_at=0.9, rungs=3),
    Plan.of("guarded", margin=0.1),
    Plan.of("vote", n=3),
    Plan.of("switch", n=3, consistent=1),
    Plan.of("modes"),
    Plan.of("mode_gate", give=0.05),
)
"""Plans that a policy chooses from: those whose calls are recorded. Votes only where samples were,
choices among modes only where some expert has several. What asks a judge, a guide or a retriever is
asked for by name (``plan:`` of a policy)."""
_AMONG_MODES = frozenset({"modes", "mode_gate"})

FALLBACK_PRICES_USD = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Fallback prices at which plans are replayed; a query uses the nearest."""

MIN_QUERIES = 20
MIN_OTHERS = 10
"""Questions of other categories that must be left when one is hidden; fewer, and general questions
are judged like known ones."""

_FIELDS = ("scores", "input_tokens", "output_tokens", "latency_s", "logprob", "own_odds")


MOST_LEFT_OUT = 0.05
"""Share of the questions that are left out where an expert fails at them again and again."""


class Recorded:
    """Recorded calls arranged for fitting: one row a question, one column an arm."""

    def __init__(self, calls: Sequence[RecordedCall], pool: Pool) -> None:
        self.arms = pool.arms
        latest = {
            (c.completion.call.query_id, c.completion.call.arm, c.completion.call.sample): c
            for c in calls
            if c.score is not None and c.skill and c.completion.call.arm in self.arms
        }
        by_query: dict[str, list[RecordedCall]] = {}
        for (query_id, _, _), call in latest.items():
            by_query.setdefault(query_id, []).append(call)
        self.left_out = _unanswered(calls, by_query, self.arms)
        """Questions that one expert failed at whenever it was asked, and how."""
        self.by_query = {q: rows for q, rows in by_query.items() if q not in self.left_out}
        self.queries = [
            Query(
                query_id=query_id,
                messages=rows[0].completion.call.messages,
                fallback_price_usd=1.0,
            )
            for query_id, rows in self.by_query.items()
        ]
        if len(self.queries) < MIN_QUERIES:
            raise DataError(
                f"Only {len(self.queries)} questions have graded outcomes; fitting needs at least "
                f"{MIN_QUERIES}. Record more: conclave record QUESTIONS.jsonl"
            )

    def outcomes(self) -> Outcomes:
        """Greedy first samples as arrays."""
        shape = len(self.queries), len(self.arms)
        fields = {name: np.full(shape, np.nan) for name in _FIELDS}
        for i, query in enumerate(self.queries):
            for call in self.by_query[query.query_id]:
                completion = call.completion
                if completion.call.sample:
                    continue
                j = self.arms.index(completion.call.arm)
                fields["scores"][i, j] = call.score
                fields["input_tokens"][i, j] = completion.usage.input_tokens
                fields["output_tokens"][i, j] = completion.usage.output_tokens
                if completion.n_batch == 1:  # calls of one batch slow each other
                    fields["latency_s"][i, j] = completion.latency_s - completion.load_s
                if completion.logprob is not None:
                    fields["logprob"][i, j] = completion.logprob
                if completion.own_odds is not None:
                    fields["own_odds"][i, j] = completion.own_odds
        skills = tuple(str(self.by_query[q.query_id][0].skill) for q in self.queries)
        return Outcomes(arms=self.arms, skills=skills, **fields)

    def recording(self) -> tuple[Recording, Mapping[tuple[str, str], float]]:
        """For replay: the completions, and the score of each distinct text that answers a query.

        By text, because that is what was graded: two programs, one of them wrong, may end in the
        same line, and that line is what is extracted as their answer.
        """
        calls = [call for rows in self.by_query.values() for call in rows]
        scores = {
            (c.completion.call.query_id, c.completion.text): float(c.score or 0) for c in calls
        }
        return Recording(c.completion for c in calls), scores

    def greedy(self) -> list[list[Completion]]:
        """(n_queries, n_arms) completions; every arm was asked everything (``_check``)."""
        return [
            ordered(self.arms, [c.completion for c in self.by_query[q.query_id]])
            for q in self.queries
        ]

    def n_samples(self) -> int:
        """Samples that every arm gave to every question."""
        counts: dict[tuple[str, Arm], int] = {}
        for rows in self.by_query.values():
            for row in rows:
                key = row.completion.call.query_id, row.completion.call.arm
                counts[key] = counts.get(key, 0) + 1
        complete = len(counts) == len(self.queries) * len(self.arms)
        return min(counts.values()) if complete else 0


def fit_pool(
    calls: Sequence[RecordedCall],
    pool: Pool,
    embedder: Embedder,
    category_of: Mapping[str, str],
    *,
    annotator: AnnotatorKind = "neighbours",
    descriptors: Mapping[str, np.ndarray] = MappingProxyType({}),
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Fitted:
    """Fit everything for a pool from its recorded, graded calls.

    descriptors: unit vectors of the skills' descriptions, which that annotator alone needs. Raises
    DataError when there are too few, or when an arm was never asked.
    """
    recorded = Recorded(calls, pool)
    outcomes = recorded.outcomes()
    _check(outcomes)
    if recorded.left_out:
        names = ", ".join(recorded.left_out)
        on_stage(f"leaving out {len(recorded.left_out)} that an expert fails at: {names}")
    on_stage("embedding questions")
    features = Features(
        embeddings=embedder.embed([q.text for q in recorded.queries]),
        n_chars=np.array([sum(len(m.content) for m in q.messages) for q in recorded.queries]),
    )
    prices = {arm: card.prices for card in pool.cards for arm in card.arms}
    router = CategoryRouter(
        category_of,
        prices,
        # Nobody is asked for keywords by a router: it looks at questions so labelled.
        annotator=NEIGHBOURS if annotator == KEYWORDS else annotator,
        descriptors=descriptors,
    )
    on_stage("predicting blindly")
    folds = fold_rows(len(outcomes))
    blind = cross_fit(router, features, outcomes, folds)
    categories = np.array([category_of[s] for s in outcomes.skills])
    kin = [np.flatnonzero(categories == c) for c in dict.fromkeys(categories)]
    # With one category out, there must be something left to learn from.
    tell_apart = len(kin) > 1 and min(len(outcomes) - len(rows) for rows in kin) >= MIN_OTHERS
    strange = cross_fit(router, features, outcomes, kin) if tell_apart else blind
    apart = kin if tell_apart else folds
    on_stage("learning to weigh answers")
    composers = fit_composers(
        [q.text for q in recorded.queries],
        recorded.greedy(),
        blind,
        outcomes,
        folds=folds,
        kin=apart,
        prices_usd=FALLBACK_PRICES_USD,
    )
    on_stage("replaying plans")
    outlooks = replay_plans(
        recorded,
        outcomes,
        known=Blind(
            scores=blind,
            confidence=cross_fit_confidence(blind, outcomes, folds),
            competency=cross_fit_competency(outcomes, folds),
            composers=composers.blind if composers else None,
        ),
        strange=Blind(
            scores=strange,
            confidence=cross_fit_confidence(blind, outcomes, apart),
            competency=cross_fit_competency(outcomes, apart),
            composers=composers.strange if composers else None,
        ),
        pool=pool,
    )
    on_stage("fitting the router")
    confidence = AnswerConfidence.fit(blind, outcomes)
    router.fit(features, outcomes)
    on_stage("looking for a shortcut")
    shortcut = Shortcut.fit([q.text for q in recorded.queries], outcomes.skills, category_of)
    known = ~np.isnan(outcomes.scores)
    report = {
        "n_questions": len(outcomes),
        "n_calls": len(calls),
        "left_out": recorded.left_out,
        "last_call_id": max(c.call_id for c in calls),
        "ece_blind": expected_calibration_error(blind.p_correct[known], outcomes.scores[known]),
        "category_accuracy_blind": float(
            np.mean(
                [
                    category_of[blind.skills[i]] == c
                    for i, c in zip(blind.p_skill.argmax(1), categories, strict=True)
                ]
            )
        ),
        "general_when_known": float(blind.is_general.mean()),
        "general_when_unknown": float(strange.is_general.mean()),
    }
    return Fitted(
        router=router,
        shortcut=shortcut,
        confidence=confidence,
        outlooks=outlooks,
        composer=composers.whole if composers else None,
        annotator=annotator,
        embedder=embedder.name,
        category_of=dict(category_of),
        versions=pool.versions,
        report=report,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Blind:
    """Beliefs about each question, all fitted without it."""

    scores: Scores
    confidence: Sequence[AnswerConfidence]
    competency: Sequence[Competency]
    composers: Sequence[RememberedComposer] | None


def cross_fit_confidence(
    scores: Scores, outcomes: Outcomes, folds: Sequence[np.ndarray]
) -> list[AnswerConfidence]:
    """For each question the confidence model that was fitted without its fold."""
    fitted: list[AnswerConfidence] = [AnswerConfidence({})] * len(outcomes)
    for rows in folds:
        rest = np.setdiff1d(np.arange(len(outcomes)), rows)
        confidence = AnswerConfidence.fit(scores[rest], outcomes[rest])
        for i in rows:
            fitted[i] = confidence
    return fitted


def cross_fit_competency(outcomes: Outcomes, folds: Sequence[np.ndarray]) -> list[Competency]:
    """For each question the competency that was counted without its fold."""
    found: dict[int, Competency] = {}
    for rows in folds:
        rest = np.setdiff1d(np.arange(len(outcomes)), rows)
        competency = Competency.of(outcomes[rest])
        found |= dict.fromkeys(map(int, rows), competency)
    return [found[i] for i in range(len(outcomes))]


def replay_plans(
    recorded: Recorded, outcomes: Outcomes, *, known: Blind, strange: Blind, pool: Pool
) -> PlanOutlooks:
    """What each plan of the menu brings per skill, and for general questions: those that the
    router takes for general when it does not know their category, since only they will be judged
    by it."""
    lookup, score_of = recorded.recording()
    n_samples = recorded.n_samples()
    plans = [p for p in MENU if _can_be_replayed(p, n_samples, pool)]
    if known.composers:
        several = range(len(known.composers[0].compositions))
        plans += [Plan.of(COMPOSE, sequence=k) for k in several]
    skills = tuple(dict.fromkeys(outcomes.skills))
    some_general = bool(strange.scores.is_general.any())
    tally = ReplayTally(FALLBACK_PRICES_USD, plans, skills, pool.arms)
    for v, fallback in enumerate(FALLBACK_PRICES_USD):
        for j, plan in enumerate(plans):
            for i, query in enumerate(recorded.queries):
                priced = Query(
                    query_id=query.query_id,
                    messages=query.messages,
                    fallback_price_usd=fallback,
                )
                for blind, label in ((known, outcomes.skills[i]), (strange, GENERAL)):
                    if label == GENERAL and some_general and not blind.scores.is_general[i]:
                        continue
                    composer = blind.composers[i] if blind.composers else None
                    strategy = make_strategy(
                        plan, blind.confidence[i].p_right, composer, blind.competency[i]
                    )
                    steps = strategy(priced, blind.scores.row(i), pool)
                    answer = run_replay(Run(steps, NO_LIMITS), lookup)
                    score = score_of.get((query.query_id, answer.text), 0.0)
                    arms = [c.call.arm for c in answer.completions]
                    cost = answer.cost_usd
                    sure = float(blind.scores.p_correct[i].max())
                    tally.add(v, j, label, sureness=sure, score=score, cost_usd=cost, calls=arms)
    return tally.outlooks()


def _can_be_replayed(plan: Plan, n_samples: int, pool: Pool) -> bool:
    if plan.strategy in _AMONG_MODES and all(len(card.modes) == 1 for card in pool.cards):
        return False
    return float(dict(plan.settings).get("n", 1)) <= n_samples


def _unanswered(
    calls: Sequence[RecordedCall],
    by_query: Mapping[str, Sequence[RecordedCall]],
    arms: Sequence[Arm],
) -> dict[str, str]:
    """Questions that an arm failed at and never answered, with its last error: resuming the
    recording may never mend it. More than a few are no such question, but an outage, or an expert
    that is set up wrongly: then none is left out, and ``_check`` complains."""
    answered = {
        (query_id, call.completion.call.arm)
        for query_id, rows in by_query.items()
        for call in rows
        if call.completion.call.sample == 0
    }
    failed = {
        c.completion.call.query_id: f"{c.completion.call.arm}: {c.completion.error}"
        for c in calls
        if c.completion.call.query_id in by_query
        and c.completion.call.arm in arms
        and c.completion.call.sample == 0
        and c.completion.error
        and (c.completion.call.query_id, c.completion.call.arm) not in answered
    }
    return failed if len(failed) <= MOST_LEFT_OUT * len(by_query) else {}


def _check(outcomes: Outcomes) -> None:
    asked = ~np.isnan(outcomes.scores)
    if never := [str(a) for a, n in zip(outcomes.arms, asked.sum(0), strict=True) if n == 0]:
        raise DataError(
            f"No graded outcome of {', '.join(never)}. Record it: conclave record "
            "QUESTIONS.jsonl, or take it out of the pool."
        )
    if (~asked).any():
        raise DataError(
            f"{int((~asked).sum())} of {asked.size} outcomes are missing: fitting replays every "
            "plan on every question. Resume the recording: conclave record QUESTIONS.jsonl"
        )


def fit_from_ledger(
    config: Config,
    ledger: Ledger,
    *,
    without: frozenset[str] = frozenset(),
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Fitted:
    """Fit the configured pool from the ledger, without the questions marked as test, and without
    those of these ids.

    Questions that came without a skill are given one by the annotator that is configured
    (orchestrator/labelling.py).
    """
    experts = make_experts(config)
    pool = Pool.of(experts.values())
    embedder = make_embedder(config.embedder)
    taxonomy = Taxonomy.load(config.taxonomy)
    versions = pool.versions
    position = ledger.position()  # before reading: what comes meanwhile is newer than this fit
    calls = [
        c
        for c in ledger.recorded_calls()
        if c.split != "test"
        and c.completion.call.query_id not in without
        and versions.get(c.completion.call.arm.expert) == c.version
    ]
    check_skills((c.skill for c in calls), taxonomy)
    on_stage("labelling questions")
    calls, labelled = label_calls(
        calls,
        config,
        experts=experts,
        ledger=ledger,
        taxonomy=taxonomy,
        embedder=embedder,
        on_stage=on_stage,
    )
    fitted = fit_pool(
        calls,
        pool,
        embedder,
        taxonomy.category_of,
        annotator=config.annotator,
        descriptors=taxonomy_vectors(taxonomy, embedder) if config.annotator == DESCRIPTORS else {},
        on_stage=on_stage,
    )
    fitted = replace(fitted, report={**fitted.report, **labelled, **position})
    return _with_aggregator(fitted, config, pool, embedder)


def _with_aggregator(fitted: Fitted, config: Config, pool: Pool, embedder: Embedder) -> Fitted:
    """With who was found to put answers together best (``conclave fit aggregator``), if the
    weights are still those that were measured: that is paid for, and a refit changes nothing of
    it."""
    try:
        before = Fitted.load(FitHistory(config.data_dir).current_dir, pool, embedder.name)
    except NotFitted:
        return fitted
    told = {k: v for k, v in before.report.items() if k == "aggregator"}
    return replace(fitted, aggregator=before.aggregator, report={**fitted.report, **told})


def check_skills(skills: Iterable[str | None], taxonomy: Taxonomy) -> None:
    """Raises DataError for a skill that the taxonomy does not have; none given is none wrong."""
    for name in dict.fromkeys(skills):
        if name and name not in taxonomy.names:
            raise DataError(
                f"Skill {name!r} is not in the taxonomy.{did_you_mean(name, taxonomy.names)} Add "
                "it to your taxonomy file (`taxonomy:` in conclave.yaml), or leave the skill out."
            )
