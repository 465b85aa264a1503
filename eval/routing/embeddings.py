"""Embeddings of a data set's prompts, kept on disk: they are the slow part of every replay."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from skills.embedders import Embedder

_CHUNK = 256


def embedded(
    prompts: Sequence[str],
    embedder: Embedder,
    folder: Path,
    *,
    on_progress: Callable[[int], None] = lambda n_done: None,
) -> np.ndarray:
    """(n_prompts, n_dims); read from ``folder`` when the same prompts were embedded before."""
    digest = hashlib.blake2b(embedder.name.encode(), digest_size=12)
    for prompt in prompts:
        digest.update(b"\0" + prompt.encode("utf-8", "surrogatepass"))
    path = folder / f"{digest.hexdigest()}.npy"
    if path.is_file():
        on_progress(len(prompts))
        known: np.ndarray = np.load(path, allow_pickle=False)
        return known
    parts = []
    clean = [p.encode("utf-8", "replace").decode() for p in prompts]
    for i in range(0, len(clean), _CHUNK):
        parts.append(embedder.embed(clean[i : i + _CHUNK]))
        on_progress(min(i + _CHUNK, len(clean)))
    vectors = np.concatenate(parts)
    folder.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    with beside.open("wb") as file:
        np.save(file, vectors, allow_pickle=False)
    beside.replace(path)
    return vectors


def decision_seconds(embedder: Embedder, prompts: Sequence[str], *, n: int = 20) -> float:
    """Median seconds to embed one prompt by itself, which is nearly all that a router's decision
    takes; measured on ``n`` of them, spread over all."""
    seconds = []
    for prompt in prompts[:: max(1, len(prompts) // n)][:n]:
        started = time.perf_counter()
        embedder.embed([prompt.encode("utf-8", "replace").decode()])
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))
