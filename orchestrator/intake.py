"""Taking in what is asked, as far as there is room: so many items, of so many bytes together.

One item is always looked at ahead: it may not fit yet, and whoever takes the last is told so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")


class Intake(Generic[T]):
    """Items of an iterable, each given out once. For one thread at a time."""

    def __init__(self, items: Iterable[T], n_bytes_of: Callable[[T], int]) -> None:
        self._items, self._n_bytes_of = iter(items), n_bytes_of
        self._ahead: list[T] = []

    def take(self, n: int, n_bytes: float, *, at_least: int) -> tuple[list[T], bool]:
        """At most ``n`` items of at most ``n_bytes`` together, and whether they are the last.
        at_least: so many, also where they are larger than that."""
        taken: list[T] = []
        self._look_ahead()
        while self._ahead and len(taken) < n:
            n_bytes -= self._n_bytes_of(self._ahead[0])
            if n_bytes < 0 and len(taken) >= at_least:
                break
            taken.append(self._ahead.pop())
            self._look_ahead()
        return taken, not self._ahead

    def _look_ahead(self) -> None:
        if not self._ahead:
            self._ahead += islice(self._items, 1)
