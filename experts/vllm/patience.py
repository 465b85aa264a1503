"""How often what fails is tried again, and how soon."""

from __future__ import annotations

from dataclasses import dataclass

from experts.errors import EngineFailed


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """With engines that die and loads that fail."""

    max_load_failures: int = 8
    """In a row, of one model; then those who wait for it are told."""
    first_back_off_s: float = 0.25
    """Before an engine that died again without having answered anything, and before a load that
    failed again, is tried again. It doubles."""
    max_back_off_s: float = 30.0

    def back_off_s(self, n_failures: int) -> float:
        """After so many failures in a row, 1 or more.

        >>> [Patience().back_off_s(n) for n in (1, 2, 3, 5000)]
        [0.25, 0.5, 1.0, 30.0]
        """
        # A model that fails for days would leave the range of floats.
        return min(self.max_back_off_s, self.first_back_off_s * 2.0 ** min(n_failures - 1, 60))


class LoadFailures:
    """Failed loads in a row, by model. An engine that somebody killed counts once, one that failed
    by itself twice, one that hung four times: it says more of the model, or costs more time."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._counts: dict[str, int] = {}

    def count(self, model: str, error: EngineFailed) -> bool:
        """Another one. Whether those who wait should wait no longer."""
        weight = 4 if error.is_hung else 1 if error.is_killed else 2
        self._counts[model] = self._counts.get(model, 0) + weight
        return self._counts[model] >= self._patience.max_load_failures

    def forget(self, model: str) -> None:
        """It was loaded."""
        self._counts.pop(model, None)

    def back_off_s(self, model: str) -> float:
        """Before the load that has just failed, not yet counted, is tried again."""
        return self._patience.back_off_s(self._counts.get(model, 0) // 2 + 1)
