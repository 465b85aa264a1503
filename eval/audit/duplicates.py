"""Questions that occur twice: word for word, or nearly; most of all on two sides of a split.

Nearly alike are prompts whose sets of shingles (five words in a row, letter case and punctuation
aside) have a Jaccard similarity of at least a threshold. Candidates come from MinHash in 16 bands
of 4 (Broder 1997; Leskovec et al., Mining of Massive Datasets, chapter 3): at a similarity of .8 a
pair is overlooked once in 6000. Every candidate is then compared exactly.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from eval.audit.findings import Finding, listed, shown
from eval.outcomes.matrix import MatrixQuery
from eval.outcomes.splits import normalised

N_WORDS = 5
_BANDS, _ROWS = 16, 4
_MAX_BUCKET = 60
"""Prompts of one template share buckets; each is compared with so many of the bucket at most."""
_OPTIONS = re.compile(r"\n\s*\(?A[.):]")
_STEM_WORDS = 8
"""'Which of the following is true?' is many questions."""
SEVERE_SHARE = 0.01
"""Of the queries of a split, with a near duplicate of the same answer on another side."""


def exact(queries: Sequence[MatrixQuery]) -> list[Finding]:
    """Prompts that occur word for word more than once."""
    same: dict[str, list[MatrixQuery]] = defaultdict(list)
    for q in queries:
        same[normalised(q.prompt)].append(q)
    groups = [g for g in same.values() if len(g) > 1]
    across = [g for g in groups if len({q.split for q in g}) > 1]
    within = [g for g in groups if len({q.split for q in g}) == 1]
    torn = [g for g in groups if len({q.answer for q in g if q.answer is not None}) > 1]
    found = []
    if across:
        found.append(
            Finding(
                check="duplicates-across-splits",
                severity="severe",
                what=f"{len(across)} prompts are in two splits: the test has been trained on",
                advice="Split by a hash of the prompt (eval.outcomes.splits), or drop them.",
                n=len(across),
                examples=shown(_ids(g) + ": " + g[0].prompt for g in across),
            )
        )
    if within:
        extra = sum(len(g) - 1 for g in within)
        found.append(
            Finding(
                check="duplicates-within-split",
                severity="warning" if extra > SEVERE_SHARE * len(queries) else "note",
                what=f"{extra} queries repeat another one of their split, word for word",
                advice="Keep one of each: they count several times, and folds share them.",
                n=extra,
                examples=shown(_ids(g) + ": " + g[0].prompt for g in within),
            )
        )
    if torn:
        found.append(
            Finding(
                check="two-answers",
                severity="warning",
                what=f"{len(torn)} prompts occur with different reference answers",
                advice="One of the answers is wrong, or the prompt lacks what tells them apart.",
                n=len(torn),
                examples=shown(_ids(g) + ": " + g[0].prompt for g in torn),
            )
        )
    return found or [
        Finding(check="duplicates-across-splits", severity="fine", what="No prompt occurs twice.")
    ]


def near(queries: Sequence[MatrixQuery], *, threshold: float, seed: int = 0) -> list[Finding]:
    """Prompts of one split that nearly are prompts of another one."""
    splits = [str(q.split) for q in queries]
    names = sorted(set(splits))
    check = "near-duplicates"
    if len(names) < 2:
        return [
            Finding(check=check, severity="note", what="One split only: nothing to compare with.")
        ]
    side = np.array([names.index(s) for s in splits])
    pairs = [
        (i, j)
        for i, j in near_pairs([q.prompt for q in queries], side, threshold=threshold, seed=seed)
        if normalised(queries[i].prompt) != normalised(queries[j].prompt)
    ]
    if not pairs:
        what = f"No prompts of two splits are {threshold:.0%} alike (Jaccard, {N_WORDS} words)."
        return [Finding(check=check, severity="fine", what=what)]
    touched = {k for pair in pairs for k in pair}
    same = [p for p in pairs if _same_answer(queries[p[0]], queries[p[1]])]
    share = max(
        len({k for pair in same for k in pair if splits[k] == name}) / splits.count(name)
        for name in names
    )
    by_split = ", ".join(
        f"{sum(splits[k] == name for k in touched)} of {splits.count(name)} in {name}"
        for name in names
    )
    return [
        Finding(
            check=check,
            severity="severe" if share >= SEVERE_SHARE else "warning",
            what=(
                f"{len(pairs)} pairs of prompts in two splits are {threshold:.0%} alike (Jaccard, "
                f"{N_WORDS} words): {by_split}; {len(same)} pairs have the same answer, or unknown "
                "ones"
            ),
            advice="Keep variants of a question in one split, or report without them.",
            n=len(pairs),
            examples=shown(
                f"{queries[i].query_id} ~ {queries[j].query_id}: {queries[i].prompt}"
                for i, j in [*same, *pairs]
            ),
        )
    ]


def shared(
    queries: Sequence[MatrixQuery],
    others: Sequence[MatrixQuery],
    *,
    threshold: float,
    seed: int = 0,
) -> list[Finding]:
    """Questions shared with another data set, and ids that mean another text there."""
    both = [*queries, *others]
    side = np.repeat([0, 1], [len(queries), len(others)])
    known = {normalised(q.prompt) for q in others}
    word_for_word = [q for q in queries if normalised(q.prompt) in known]
    pairs = near_pairs([q.prompt for q in both], side, threshold=threshold, seed=seed)
    stems = {stem(q.prompt) for q in others} - {None}
    same_stem = {i for i, q in enumerate(queries) if stem(q.prompt) in stems}
    alike = {min(pair) for pair in pairs} | same_stem
    alike |= {i for i, q in enumerate(queries) if normalised(q.prompt) in known}
    texts = {q.query_id: normalised(q.prompt) for q in others}
    torn = [q for q in queries if q.query_id in texts and texts[q.query_id] != normalised(q.prompt)]
    found = [
        Finding(
            check="shared-with-other",
            severity="warning" if alike else "fine",
            what=(
                f"{len(alike)} of {len(queries)} prompts are in the other data set, too: "
                f"{len(word_for_word)} word for word, the rest {threshold:.0%} alike or with the "
                f"same question before their options ({len(same_stem)})"
            ),
            advice="Never train on one and test on the other." if alike else "",
            n=len(alike),
            examples=shown(both[i].prompt for i in sorted(alike)),
        )
    ]
    if torn:
        found.append(
            Finding(
                check="ids-with-other-texts",
                severity="severe",
                what=f"{len(torn)} query ids mean another prompt in the other data set",
                advice="Join on the prompt, never on these ids.",
                n=len(torn),
                examples=shown(f"{q.query_id}: {q.prompt}" for q in torn),
            )
        )
    return found


def stem(prompt: str) -> str | None:
    """The question before its options; None where it is too short to be one question only.

    >>> stem("Which planet of the solar system has the most moons today?\\nA. Mars\\nB. Saturn")
    'which planet of the solar system has the most moons today'
    """
    words = re.findall(r"\w+", _OPTIONS.split(prompt, maxsplit=1)[0].lower())
    return " ".join(words) if len(words) >= _STEM_WORDS else None


def near_pairs(
    prompts: Sequence[str], side: np.ndarray, *, threshold: float, seed: int = 0
) -> list[tuple[int, int]]:
    """Pairs (i < j) of prompts of different sides that are at least so alike; side: (n,) integers.

    >>> text = "how many apples are left when three of the {} are eaten"
    >>> near_pairs([text.format("ten"), text.format("ten") + " now", "x"], np.array([0, 1, 1]),
    ...            threshold=0.8)
    [(0, 1)]
    """
    rng = np.random.default_rng(seed)
    sets = _shingles(prompts, rng)
    factors = rng.integers(1, 2**63, (_BANDS * _ROWS, 1), dtype=np.uint64) | np.uint64(1)
    buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for i, items in enumerate(sets):
        if len(items):
            # An odd factor permutes 64-bit integers, and mixes the high bits best.
            least = ((factors * items) >> np.uint64(16)).min(axis=1).reshape(_BANDS, _ROWS)
            for band, values in enumerate(least):
                buckets[band, values.tobytes()].append(i)
    candidates = set()
    for members in buckets.values():
        compared = members
        if len(members) > _MAX_BUCKET:
            compared = [members[k] for k in rng.choice(len(members), _MAX_BUCKET, replace=False)]
        for i in members:
            for j in compared:
                if side[i] != side[j]:
                    candidates.add((min(i, j), max(i, j)))
    return sorted(p for p in candidates if _jaccard(sets[p[0]], sets[p[1]]) >= threshold)


def _shingles(prompts: Sequence[str], rng: np.random.Generator) -> list[np.ndarray]:
    """Sorted distinct 64-bit numbers of the word sequences of each prompt."""
    numbers: dict[str, int] = {}
    weights = rng.integers(1, 2**63, N_WORDS, dtype=np.uint64) | np.uint64(1)
    code = rng.integers(0, 2**63, 1 << 12, dtype=np.uint64)
    sets = []
    for prompt in prompts:
        words = re.findall(r"\w+", prompt.lower())
        ids = np.array([numbers.setdefault(w, len(numbers)) for w in words], np.uint64)
        if len(numbers) > len(code):
            more = rng.integers(0, 2**63, max(len(code), len(numbers)), dtype=np.uint64)
            code = np.concatenate([code, more])
        k = min(N_WORDS, len(ids))
        if k == 0:
            sets.append(np.zeros(0, np.uint64))
            continue
        windows = np.lib.stride_tricks.sliding_window_view(code[ids.astype(int)], k)
        sets.append(np.unique((windows * weights[:k]).sum(axis=1, dtype=np.uint64)))
    return sets


def _jaccard(a: np.ndarray, b: np.ndarray) -> float:
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / (len(a) + len(b) - both)


def _same_answer(a: MatrixQuery, b: MatrixQuery) -> bool:
    return a.answer is None or b.answer is None or a.answer == b.answer


def _ids(queries: Sequence[MatrixQuery]) -> str:
    return listed((f"{q.query_id} ({q.split})" for q in queries), 3)
