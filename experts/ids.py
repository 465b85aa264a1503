"""Ids: nobody guesses one, and later ones sort behind earlier ones, so that tables that are kept in
their order grow at the end."""

from __future__ import annotations

import os
import time


def new_id(kind: str) -> str:
    """``kind``, the time in milliseconds and 64 random bits, in hexadecimal.

    >>> len(new_id("q"))
    29
    """
    return f"{kind}-{time.time_ns() // 1_000_000:011x}{os.urandom(8).hex()}"
