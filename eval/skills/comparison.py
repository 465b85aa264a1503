"""Annotators compared: who says rightly which skills a question needs, and what that is worth.

Every annotator is fitted on the same questions and judged on others: with wordings that are new,
and of categories that were hidden from it. What routing gains is replayed (``eval.skills.replay``):
the router that step one feeds picks one expert a question, whose recorded answer and price are
taken; the objective is dollars + (1 - right) V, the annotation's own dollars included. Beside them
stand the skill as it was told (no annotator can do better) and the best single expert (no skill at
all).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from eval.skills.figures import Comparison, figures_of
from eval.skills.questions import embed_ms, questions_of
from eval.skills.replay import TOLD, Replay, Said, joined, rows_of
from experts.errors import DataError
from experts.expert import Pool
from experts.values import Query
from orchestrator.keywords import KeywordLabels
from orchestrator.ledger import RecordedCall
from skills.annotators import CLASSIFIER, DESCRIPTORS, KEYWORDS, NEIGHBOURS
from skills.embedders import Embedder
from skills.taxonomy import Taxonomy

AskKeywords = Callable[[Sequence[Query]], KeywordLabels]


def compare_annotators(
    fit_calls: Sequence[RecordedCall],
    test_calls: Sequence[RecordedCall],
    pool: Pool,
    taxonomy: Taxonomy,
    embedder: Embedder,
    *,
    fallback_price_usd: float,
    ask_keywords: AskKeywords | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Comparison:
    """Calls are greedy, graded, and of questions with a skill; every arm was asked everything.
    ask_keywords: for questions of both sets; None leaves keywords out.

    Raises DataError where there is too little to fit or to judge.
    """
    on_stage("embedding questions")
    fit = questions_of(fit_calls, pool, embedder)
    test = questions_of(test_calls, pool, embedder)
    unknown = set(test.outcomes.skills) - set(fit.outcomes.skills)
    if unknown:
        raise DataError(
            f"No question to fit on has the skill {', '.join(sorted(unknown))}: record some."
        )
    replay = Replay(
        pool=pool,
        taxonomy=taxonomy,
        embedder=embedder,
        fallback_price_usd=fallback_price_usd,
        fit=fit,
    )
    category_of = taxonomy.category_of
    categories = np.array([category_of[s] for s in test.outcomes.skills])
    fit_categories = np.array([category_of[s] for s in fit.outcomes.skills])
    labels = None
    if ask_keywords is not None:
        on_stage("asking for keywords")
        labels = ask_keywords(test.queries)
    embedding_ms = embed_ms(embedder, test.queries)
    known: dict[str, Said] = {}
    hidden: dict[str, list[tuple[np.ndarray, Said]]] = {}
    everything = np.arange(len(test.queries))
    for kind in (NEIGHBOURS, DESCRIPTORS, CLASSIFIER):
        on_stage(f"{kind}: new wordings")
        router = replay.router(kind, np.arange(len(fit.queries)))
        known[kind] = replay.routed(router, test, embedding_ms)
        if kind == NEIGHBOURS:
            known |= replay.without_annotator(router, test)
            if labels is not None:
                known[KEYWORDS] = replay.by_keywords(router, test, labels, embedding_ms)
        on_stage(f"{kind}: hidden categories")
        for category in dict.fromkeys(categories.tolist()):
            rows = everything[categories == category]
            router = replay.router(kind, np.flatnonzero(fit_categories != category))
            some = test[rows]
            hidden.setdefault(kind, []).append((rows, replay.routed(router, some, embedding_ms)))
            if kind != NEIGHBOURS:
                continue
            for name, said in replay.without_annotator(router, some).items():
                hidden.setdefault(name, []).append((rows, said))
            if labels is not None:
                asked = rows_of(labels, rows)
                by = replay.by_keywords(router, some, asked, embedding_ms)
                hidden.setdefault(KEYWORDS, []).append((rows, by))
    whole = {name: joined(parts) for name, parts in hidden.items() if name != TOLD}
    truth = test.outcomes.skills
    return Comparison(
        known=figures_of(known, truth, category_of),
        hidden=figures_of(whole, truth, category_of),
        fallback_price_usd=fallback_price_usd,
        n_fit=len(fit.queries),
    )
