"""When to ask again: exponential back-off, or what the server asked for."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from experts.remote.wire import WireError

MAX_ATTEMPTS = 4
FIRST_WAIT_S = 0.5
MAX_WAIT_S = 60.0
"""Of our own back-off, and the longest wish of a server that is granted: one that says to come back
in an hour has said no."""


def wait_before_retry(
    error: WireError, n_attempts: int, *, left_s: float = math.inf, luck: float | None = None
) -> float | None:
    """Seconds to wait before another attempt; None to give up.

    left_s: until the call's deadline; a wait that would pass it is not begun. luck: in [0, 1),
    drawn when not given: waits are between half and all of the back-off, so that calls that failed
    together do not come back together.

    >>> busy = WireError("busy", is_transient=True)
    >>> [wait_before_retry(busy, n, luck=0.0) for n in (1, 2, 3, 4)]
    [0.25, 0.5, 1.0, None]
    >>> wait_before_retry(WireError("busy", is_transient=True, retry_after_s=7), 1)
    7
    """
    if not error.is_transient or n_attempts >= MAX_ATTEMPTS:
        return None
    if error.retry_after_s is not None:
        wait = error.retry_after_s
        if wait > MAX_WAIT_S:
            return None
    else:
        share = 0.5 + 0.5 * (random.random() if luck is None else luck)
        wait = min(MAX_WAIT_S, FIRST_WAIT_S * 2 ** (n_attempts - 1)) * share
    return wait if wait < left_s else None


def retry_after_s(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or a date (RFC 9110, 10.2.3); None
    where there is none that can be read.

    >>> retry_after_s("2"), retry_after_s("soon"), retry_after_s(None)
    (2.0, None, None)
    """
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            at = parsedate_to_datetime(header)
        except ValueError:
            return None
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        seconds = (at - (now or datetime.now(UTC))).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
