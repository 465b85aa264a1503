"""What is believed: the fitted state in use, and what was learned since."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from experts.errors import NotFitted
from orchestrator.config import LearningSettings
from orchestrator.fitted import Fitted
from orchestrator.learning.learner import Learner
from orchestrator.learning.observations import Embed
from orchestrator.ledger import Ledger
from routers.scores import Scores

Changed = Callable[[], Fitted | None]
"""Another fitted state, where one was put to use since the last time."""


class Knowledge:
    """See the module. Safe to use from several threads."""

    def __init__(
        self,
        fitted: Fitted | NotFitted,
        ledger: Ledger,
        *,
        versions: Mapping[str, str],
        embed: Embed,
        settings: LearningSettings,
        changed: Changed | None = None,
    ) -> None:
        """versions: of the experts' weights. changed: asked, whenever there may be something to
        learn, for another fitted state."""
        self._ledger, self._versions, self._embed = ledger, versions, embed
        self._settings, self._changed = settings, changed
        self._known: NotFitted | Learner
        self.fitted = fitted

    @property
    def fitted(self) -> Fitted | NotFitted:
        """The state in use. Setting it is one assignment: each decision is taken, and carried out,
        by the old one or the new one, with what was learned since it was fitted."""
        known = self._known
        return known if isinstance(known, NotFitted) else known.fitted

    @fitted.setter
    def fitted(self, fitted: Fitted | NotFitted) -> None:
        self._known = fitted if isinstance(fitted, NotFitted) else self._learner_of(fitted)

    @property
    def learner(self) -> Learner | None:
        """What was learned since the fit; None where nothing is fitted."""
        return None if isinstance(self._known, NotFitted) else self._known

    def learn(self) -> None:
        """Take in what the ledger has of new verdicts, and another fitted state where one was put
        to use. Milliseconds of reading and, after a refit, of embedding: not on the event loop."""
        if self._changed is not None and (other := self._changed()) is not None:
            learner = self._learner_of(other)
            learner.catch_up()  # before anybody uses it
            self._known = learner
        elif self.learner is not None:
            self.learner.catch_up()

    def with_learned(
        self, scores: Scores, *, counted: bool = False
    ) -> tuple[Scores, np.ndarray | None]:
        """Beliefs with what was learned since the fit and, if ``counted``, how many observations
        each is worth, (n_queries, n_arms); None where nothing can be learned."""
        learner = self.learner
        if learner is None or (shifts := learner.shifts) is None:
            return scores, None
        known_n = shifts.known_n(scores) if counted else None
        return shifts.apply(scores) if learner.has_learned else scores, known_n

    def _learner_of(self, fitted: Fitted) -> Learner:
        return Learner(
            fitted,
            self._ledger,
            versions=self._versions,
            embed=self._embed,
            settings=self._settings,
        )
