"""What the settings of strategies may be, found out before anybody is asked.

One range for each name, whichever strategies have it. Which arms there are, and what was fitted, is
found out where the pool is known (``orchestrator.named_plans``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from experts.errors import UnknownName, UserError
from experts.values import Arm
from orchestrator.aggregators import AGGREGATORS, ASKING
from routers.plans import Setting

MOST = 100
"""Arms, samples or turns of one question: more is a slip of the hand, and would be paid for."""
ARMS = ("by", "solver", "judge")
"""Settings that name an arm."""


@dataclass(frozen=True, slots=True)
class Range:
    """Both ends are in it."""

    least: float
    most: float
    is_whole: bool = False

    def __contains__(self, value: float) -> bool:
        return self.least <= value <= self.most and (not self.is_whole or value == int(value))

    def __str__(self) -> str:
        kind = "a whole number" if self.is_whole else "a number"
        return f"{kind} from {self.least:g} to {self.most:g}"


_COUNT = Range(1, MOST, is_whole=True)
_SHARE = Range(0, 1)
_FLAG = Range(0, 1, is_whole=True)
RANGES: Mapping[str, Range] = {
    **dict.fromkeys(("agree", "arms", "k", "most", "n", "rungs", "team", "turns"), _COUNT),
    "samples": Range(0, MOST, is_whole=True),
    **dict.fromkeys(("below", "consistent", "floor", "gap", "give", "good", "hopeless"), _SHARE),
    **dict.fromkeys(("margin", "p", "stop_at", "sure"), _SHARE),
    **dict.fromkeys(("abstains", "distinct"), _FLAG),
    "seed": Range(0, 2**31 - 1, is_whole=True),
    "sequence": Range(0, 10_000, is_whole=True),
    # An exponent of 1 / T: below, powers of counts are all 0 or 1 anyway.
    "temperature": Range(0.01, 100),
}
"""Of every setting that is a number."""


def check_values(strategy: str, told: Mapping[str, Setting]) -> None:
    """Raises UserError for a number out of its range and for settings that defeat each other,
    UnknownName for an aggregator that there is not."""
    for name, value in told.items():
        if not isinstance(value, str) and value not in RANGES[name]:
            raise UserError(f"{strategy}: {name} is {value:g}, but it must be {RANGES[name]}.")
    merge = told.get("merge")
    if merge is not None and merge not in (*AGGREGATORS, *ASKING):
        raise UnknownName(str(merge), (*AGGREGATORS, *ASKING), what="aggregator")
    by, solver = told.get("by"), told.get("solver")
    if by and solver and Arm.parse(str(by)) == Arm.parse(str(solver)):
        if strategy == "retrieve":
            raise UserError(
                f"retrieve: {by} cannot both look things up and answer (by and solver). Name "
                "another solver, or none: then the arm that is worth its price answers."
            )
        if strategy == "guide":
            raise UserError(
                f"guide: {by} cannot guide itself (by and solver). Name another solver, or none, "
                "or use the plan single."
            )
