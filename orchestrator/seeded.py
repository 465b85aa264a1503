"""Chance that is the same every time: drawn from a query's id and a seed."""

from __future__ import annotations

import hashlib

import numpy as np


def seeded(query_id: str, seed: int, what: str) -> np.random.Generator:
    """A generator of its own for each query, seed and use: live, in a wave, in replay and after a
    kill, the same numbers come."""
    told = f"{what}\0{seed}\0{query_id}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(told, digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))
