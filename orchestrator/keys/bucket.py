"""A bucket that fills evenly: how rates are limited.

The generic cell rate algorithm (ITU-T I.371): one number is kept, the time at which the bucket is
full again. It holds a minute's worth, so in any minute at most twice the rate goes through: what
was saved, and what comes meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

MINUTE_S = 60.0


@dataclass(slots=True)
class Bucket:
    """Of one rate. Times are of any clock that never goes back, in seconds."""

    per_min: int
    full_at: float = 0.0

    def wait_s(self, n: float, now: float) -> float:
        """Until there are ``n`` in it, or as many as it holds where it never holds as many; 0 where
        they are there."""
        n = min(n, self.per_min)
        return max(0.0, self._after(n, now) - now - MINUTE_S)

    def take(self, n: float, now: float) -> None:
        """Take ``n`` out, or put them back where it is below 0. It can be taken more than is in
        it; then it is empty for longer."""
        self.full_at = max(now, self._after(n, now))

    def _after(self, n: float, now: float) -> float:
        return max(self.full_at, now) + n * MINUTE_S / self.per_min
