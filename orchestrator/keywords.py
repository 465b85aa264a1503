"""Asking an LLM for the skills of questions: who, how often, and what it may cost.

The words are in ``skills/keywords.py``. Every pass is a call of purpose "annotate", made by the
drivers and recorded as any other: to label recorded questions when a pool is fitted, and, where the
owner wants it, as the first step of every answer (``KeywordStep``). What the ledger has of a
question's passes is not asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from experts.errors import ExpertFailure, UserError
from experts.expert import Expert, Pool
from experts.values import Arm, Call, Completion, Message, Query, Sampling
from orchestrator.config import KeywordSettings
from orchestrator.drivers.calling import call_experts
from orchestrator.evidence import put
from orchestrator.ledger import Ledger
from skills.annotate import Annotation
from skills.embedders import Embedder
from skills.keywords import KeywordAnnotator, agreed_keywords, keyword_prompt, parse_keywords
from skills.taxonomy import Taxonomy

BATCH = 256
"""Calls asked together."""
FAR = 0.6
"""Novelty from which keywords say nothing of a question that the router does not know: 1 - cosine
of the nearest keyword to its descriptor. A keyword that names a skill of the taxonomy in other
words lies at some 0.3 to 0.55, one from elsewhere above."""


def keyword_calls(query: Query, settings: KeywordSettings) -> list[Call]:
    """The passes over one question; its text is data within the prompt."""
    messages = (Message(role="user", content=keyword_prompt(query.text)),)
    return [
        put(
            query,
            Arm(settings.expert),
            messages,
            purpose="annotate",
            sampling=Sampling(
                temperature=settings.temperature, seed=i, max_tokens=settings.max_tokens
            ),
            sample=i,
        )
        for i in range(settings.passes)
    ]


def keywords_of(completions: Sequence[Completion], settings: KeywordSettings) -> dict[str, int]:
    """What the passes agree on. The order of passes is that of their samples, whoever was quicker;
    one that failed names nothing."""
    in_order = sorted(completions, key=lambda c: c.call.sample)
    passes = [parse_keywords(c.text) if c.ok else () for c in in_order]
    return agreed_keywords(passes, n_asked=settings.passes)


@dataclass(frozen=True, kw_only=True)
class KeywordStep:
    """What a conclave needs to ask for keywords before it decides."""

    settings: KeywordSettings
    skills: tuple[str, ...]
    """Of the router."""
    taxonomy: Taxonomy
    embedder: Embedder

    @cached_property
    def annotator(self) -> KeywordAnnotator:
        return keyword_annotator(self.skills, self.taxonomy, self.embedder)


def keyword_annotator(
    skills: Sequence[str], taxonomy: Taxonomy, embedder: Embedder
) -> KeywordAnnotator:
    vectors = taxonomy_vectors(taxonomy, embedder)
    return KeywordAnnotator(skills, np.array([vectors[s] for s in skills]), embedder.embed)


def taxonomy_vectors(taxonomy: Taxonomy, embedder: Embedder) -> dict[str, np.ndarray]:
    """Unit vectors of the descriptions, by skill."""
    vectors = embedder.embed([s.description for s in taxonomy.skills])
    return dict(zip(taxonomy.names, vectors, strict=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class KeywordLabels:
    """What asking for keywords brought."""

    annotation: Annotation
    """Over all skills of the taxonomy; novelty 2 where no keyword was agreed on."""
    keywords: Sequence[Mapping[str, int]]
    """Per question, as ``agreed_keywords``."""
    n_asked: int
    """Calls made now; others were in the ledger."""
    cost_usd: float
    """Of these."""
    latency_s: np.ndarray
    """(n_questions,) of all its passes together, whenever they were made; calls that were decoded
    together count their part."""
    spent_usd: np.ndarray
    """(n_questions,) likewise."""


def ask_for_keywords(
    queries: Sequence[Query],
    settings: KeywordSettings,
    experts: Mapping[str, Expert],
    ledger: Ledger,
    annotator: KeywordAnnotator,
    *,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> KeywordLabels:
    """Keywords of questions that the ledger knows, and the skills that they stand for.

    Not from within an event loop. Raises, before anything is paid, UnknownExpert, and UserError
    where the most that the calls can cost is above ``max_fit_usd``; ExpertFailure when not one
    call succeeded.
    """
    pool = Pool.of(experts.values())
    version = pool.card(settings.expert).version
    known: dict[tuple[str, int], Completion] = {
        (c.completion.call.query_id, c.completion.call.sample): c.completion
        for c in ledger.completions_of([q.query_id for q in queries])
        if c.completion.call.purpose == "annotate"
        and c.version == version
        and c.completion.call.arm == Arm(settings.expert)
        and c.completion.call.sampling.temperature == settings.temperature
    }
    calls = [call for query in queries for call in keyword_calls(query, settings)]
    missing = [c for c in calls if (c.query_id, c.sample) not in known]
    most_usd = sum(pool.most_usd(call) for call in missing)
    if settings.max_fit_usd is not None and most_usd > settings.max_fit_usd:
        raise UserError(
            f"Asking {settings.expert} for the keywords of {len(queries)} questions may cost up to "
            f"{most_usd:.2g} $, more than `keywords.max_fit_usd` ({settings.max_fit_usd:g}). Raise "
            "it, record fewer questions, or give them their skill."
        )
    if missing:
        on_stage(
            f"asking {settings.expert} for keywords: {len(missing)} calls, at most {most_usd:.2g} $"
        )
    made = asyncio.run(_made(missing, experts, ledger)) if missing else []
    if made and not known and not any(c.ok for c in made):
        raise ExpertFailure(f"{settings.expert} named no keywords: {made[0].error}")
    known |= {(c.call.query_id, c.call.sample): c for c in made}
    answered = [
        [known[q.query_id, i] for i in range(settings.passes) if (q.query_id, i) in known]
        for q in queries
    ]
    keywords = [keywords_of(some, settings) for some in answered]
    return KeywordLabels(
        annotation=annotator.annotate(keywords),
        keywords=keywords,
        n_asked=len(made),
        cost_usd=sum(c.cost_usd for c in made),
        latency_s=np.array([sum(c.latency_s / c.n_batch for c in some) for some in answered]),
        spent_usd=np.array([sum(c.cost_usd for c in some) for some in answered]),
    )


async def _made(
    calls: Sequence[Call], experts: Mapping[str, Expert], ledger: Ledger
) -> list[Completion]:
    versions = Pool.of(experts.values()).versions

    def record(completions: Sequence[Completion]) -> None:
        ledger.add_calls(completions, [None] * len(completions), versions=versions)

    made: list[Completion] = []
    for start in range(0, len(calls), BATCH):
        made += await call_experts(calls[start : start + BATCH], experts, record)
    return made
