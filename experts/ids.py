"""Ids: nobody guesses one, and later ones sort behind earlier ones, so that tables that are kept in
their order grow at the end."""

from __future__ import annotations

import os
import time

_N_AHEAD = 512
_random: list[str] = []
"""Of the next ids: asking the system for each would take longer than all else here."""
# A process that is forked must not give its parent's ids.
os.register_at_fork(after_in_child=_random.clear)


def new_id(kind: str) -> str:
    """``kind``, the time in milliseconds and 64 random bits, in hexadecimal.

    >>> len(new_id("q"))
    29
    """
    try:
        random = _random.pop()
    except IndexError:  # and not a look before it: threads share the list
        more = os.urandom(8 * _N_AHEAD).hex()
        _random.extend(more[i : i + 16] for i in range(16, len(more), 16))
        random = more[:16]
    return f"{kind}-{time.time_ns() // 1_000_000:011x}{random}"
