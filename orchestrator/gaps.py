"""Questions that nobody covers, gathered from the ledger by week and by what they are about.

A question is a gap when its decision found it unlike all that is known (*general*), when a strategy
noted a coverage gap (``orchestrator/strategies/guarded.py``), or when a policy asked nobody. What
stands together in a queue is what one new expert, tool or set of recorded questions could cover.
Reads; decides nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np

from orchestrator.ledger import Ledger
from orchestrator.strategies.guarded import COVERAGE_GAP

Kind = Literal["unknown", "uncovered", "not asked"]
Embed = Callable[[Sequence[str]], np.ndarray]
MAX_OF_WEEK = 1000
"""Questions of a week that are clustered, the latest: distances of all pairs are looked at."""
DISTANCE = 0.6
"""1 - cosine up to which two clusters, on average, belong together. Of 0.3 to 0.8 the one that best
found 28 skills again in 336 validation questions of the bundled pool (adjusted Rand index 0.52): 98
clusters, 87 % of whose questions are of their cluster's skill."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """One question."""

    decision_id: str
    at: float
    """Unix seconds."""
    text: str
    kind: Kind
    fallback_price_usd: float
    cost_usd: float
    """Of its answer; 0 where nobody was asked."""
    score: float | None
    """The latest verdict on its answer, in [0, 1]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GapCluster:
    """Questions of one week that are about the same."""

    week: str
    """Its Monday (UTC), as 2026-11-16."""
    example: str
    """The question in the middle."""
    n: int
    kinds: Mapping[str, int]
    cost_usd: float
    at_stake_usd: float
    """Sum of the fallback prices: what it costs their askers if none is answered right."""
    right: float | None
    """Mean of the verdicts that there are."""
    n_judged: int
    decision_ids: tuple[str, ...]


def gaps_of(ledger: Ledger, *, since_s: float = 0.0) -> list[Gap]:
    """Of decisions since then (Unix seconds), oldest first. Questions that were asked for by the
    name of an expert are none: nobody chose."""
    rows = ledger.rows(
        "SELECT d.decision_id, d.at, d.fallback_price_usd, q.messages, "
        "COALESCE(json_extract(a.decided, '$.scores'), d.scores) AS scores, "
        "COALESCE(json_extract(a.decided, '$.plan'), d.plan) AS plan, "
        "a.notes, a.abstained, a.cost_usd, (SELECT v.score FROM verdicts v "
        "WHERE v.decision_id = d.decision_id ORDER BY v.verdict_id DESC LIMIT 1) AS score "
        "FROM decisions d JOIN queries q USING (query_id) LEFT JOIN answers a USING (decision_id) "
        "WHERE d.at >= ? AND d.plan != 'only' ORDER BY d.at",
        [since_s],
    )
    return [gap for row in rows if (gap := _gap(row)) is not None]


def _gap(row: Mapping[str, Any]) -> Gap | None:
    notes = json.loads(row["notes"] or "[]")
    kind: Kind
    if any(note.startswith(COVERAGE_GAP) for note in notes):
        kind = "uncovered"
    elif json.loads(row["scores"]).get("is_general"):
        kind = "unknown"
    elif row["abstained"] or row["plan"] == "abstain":
        kind = "not asked"
    else:
        return None
    asked = [content for role, content, *_ in json.loads(row["messages"]) if role == "user"]
    return Gap(
        decision_id=row["decision_id"],
        at=row["at"],
        text=asked[-1],
        kind=kind,
        fallback_price_usd=row["fallback_price_usd"],
        cost_usd=row["cost_usd"] or 0.0,
        score=row["score"],
    )


def week_of(at_s: float) -> str:
    """The Monday (UTC) of a moment.

    >>> week_of(1_700_000_000)
    '2023-11-13'
    """
    day = datetime.fromtimestamp(at_s, UTC).date()
    return str(day - timedelta(days=day.weekday()))


def queue(gaps: Iterable[Gap], embed: Embed) -> list[GapCluster]:
    """The latest week first; within a week, where most is at stake first."""
    weeks: dict[str, list[Gap]] = {}
    for gap in gaps:
        weeks.setdefault(week_of(gap.at), []).append(gap)
    found = []
    for week in sorted(weeks, reverse=True):
        of_week = weeks[week][-MAX_OF_WEEK:]
        vectors = embed([gap.text for gap in of_week])
        labels = clusters(vectors)
        made = [
            _cluster(week, [of_week[i] for i in rows], vectors[rows])
            for label in range(labels.max() + 1)
            if len(rows := np.flatnonzero(labels == label))
        ]
        found += sorted(made, key=lambda c: (-c.at_stake_usd, -c.n, c.example))
    return found


def clusters(vectors: np.ndarray) -> np.ndarray:
    """(n,) labels from 0 on of (n, d) unit vectors: average linkage, cut at ``DISTANCE``."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(vectors) < 2:
        return np.zeros(len(vectors), int)
    distances = np.clip(1 - vectors @ vectors.T, 0, None)
    np.fill_diagonal(distances, 0)
    tree = linkage(squareform(distances, checks=False), "average")
    labels: np.ndarray = fcluster(tree, DISTANCE, "distance") - 1
    return labels


def _cluster(week: str, gaps: Sequence[Gap], vectors: np.ndarray) -> GapCluster:
    judged = [gap.score for gap in gaps if gap.score is not None]
    kinds = [gap.kind for gap in gaps]
    return GapCluster(
        week=week,
        example=gaps[int((vectors @ vectors.mean(axis=0)).argmax())].text,
        n=len(gaps),
        kinds={kind: kinds.count(kind) for kind in sorted(set(kinds))},
        cost_usd=sum(gap.cost_usd for gap in gaps),
        at_stake_usd=sum(gap.fallback_price_usd for gap in gaps),
        right=float(np.mean(judged)) if judged else None,
        n_judged=len(judged),
        decision_ids=tuple(gap.decision_id for gap in gaps),
    )
