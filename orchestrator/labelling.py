"""Skills for recorded questions that came without one, by the annotator that is configured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from experts.expert import Expert
from experts.values import Query
from orchestrator.config import Config
from orchestrator.keywords import ask_for_keywords, keyword_annotator, taxonomy_vectors
from orchestrator.ledger import Ledger, RecordedCall
from skills.annotate import DescriptorAnnotator
from skills.annotators import CLASSIFIER, DESCRIPTORS, KEYWORDS
from skills.classifier import ClassifierAnnotator
from skills.embedders import Embedder
from skills.taxonomy import Taxonomy

MIN_PER_SKILL = 5
"""Labelled questions of every skill of the taxonomy that a classifier needs before it labels
others: one that it was never shown it would never name."""


def label_calls(
    calls: Sequence[RecordedCall],
    config: Config,
    *,
    experts: Mapping[str, Expert],
    ledger: Ledger,
    taxonomy: Taxonomy,
    embedder: Embedder,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> tuple[list[RecordedCall], dict[str, Any]]:
    """The calls with a skill each, and who gave how many, for the report.

    Descriptors label, unless a classifier or keywords are configured; they also label what the
    classifier cannot (too few labelled questions) and what keywords leave open (none agreed on).
    Raises what ``ask_for_keywords`` raises.
    """
    text_of = {c.completion.call.query_id: c for c in calls}
    bare = {q: _query(c) for q, c in text_of.items() if not c.skill}
    n_given = len(text_of) - len(bare)
    report: dict[str, Any] = {"labelled_by": {"given": n_given}, "annotation_usd": 0.0}
    if not bare:
        return list(calls), report
    queries = list(bare.values())
    vectors = embedder.embed([q.text for q in queries])
    descriptors = np.array(list(taxonomy_vectors(taxonomy, embedder).values()))
    labels = DescriptorAnnotator(taxonomy.names, descriptors).annotate(vectors).p_skill.argmax(1)
    by = np.array([DESCRIPTORS] * len(queries), dtype=object)
    if config.annotator == CLASSIFIER:
        given = [c for c in text_of.values() if c.skill]
        counts = {s: sum(c.skill == s for c in given) for s in taxonomy.names}
        if min(counts.values()) >= MIN_PER_SKILL:
            known = embedder.embed([_query(c).text for c in given])
            classifier = ClassifierAnnotator().fit(
                known, [str(c.skill) for c in given], taxonomy.names
            )
            labels = classifier.annotate(vectors).p_skill.argmax(1)
            by[:] = CLASSIFIER
    elif config.annotator == KEYWORDS and config.keywords is not None:
        asked = ask_for_keywords(
            queries,
            config.keywords,
            experts,
            ledger,
            keyword_annotator(taxonomy.names, taxonomy, embedder),
            on_stage=on_stage,
        )
        named = asked.annotation.novelty < 2
        labels = np.where(named, asked.annotation.p_skill.argmax(1), labels)
        by[named] = KEYWORDS
        report["annotation_usd"] = asked.cost_usd
    for name in dict.fromkeys(by):
        report["labelled_by"][name] = int((by == name).sum())
    skill_of = {q.query_id: taxonomy.names[i] for q, i in zip(queries, labels, strict=True)}
    return [
        c if c.skill else replace(c, skill=skill_of[c.completion.call.query_id]) for c in calls
    ], report


def _query(recorded: RecordedCall) -> Query:
    call = recorded.completion.call
    return Query(query_id=call.query_id, messages=call.messages, fallback_price_usd=1.0)
