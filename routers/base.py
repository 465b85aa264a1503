"""The Router protocol: scikit-learn's bargain, with outcomes of arms in place of labels."""

from __future__ import annotations

from typing import Protocol, Self

from routers.outcomes import Features, Outcomes
from routers.scores import Scores


class Router(Protocol):
    """Predicts, per query and arm, how likely the arm is right and what it will cost.

    The constructor stores its settings; ``fit`` learns and returns self; learned attributes end
    in ``_``; ``score`` before ``fit`` raises NotFitted. A router is pure: no network, no clock, no
    randomness that it was not given.
    """

    def fit(self, features: Features, outcomes: Outcomes) -> Self: ...

    def score(self, features: Features) -> Scores: ...
