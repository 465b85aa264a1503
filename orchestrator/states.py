"""Which fitted state a pool is answered with: the owner's, or the one that ships."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from experts.errors import NotFitted
from experts.expert import Pool
from orchestrator.config import Config
from orchestrator.fitted import Fitted
from orchestrator.learning.history import FitHistory
from skills.embedders import Embedder

log = logging.getLogger(__name__)

SHIPPED_STATE = Path(__file__).parent.parent / "routers" / "bundled"
Load = Callable[[Config, Pool, Embedder], Fitted]
"""Raises NotFitted, with the reason."""


class StateSource:
    """The state in use, and another one once its owner has put that to use."""

    def __init__(self, config: Config, pool: Pool, embedder: Embedder, load: Load) -> None:
        self._config, self._pool, self._embedder, self._load = config, pool, embedder, load
        self._history = FitHistory(config.data_dir)
        self._in_use = self._history.current_id

    def now(self) -> Fitted | NotFitted:
        """The state that is in use now, or why there is none."""
        try:
            fitted = self._load(self._config, self._pool, self._embedder)
        except NotFitted as reason:
            return reason
        return fitted if self._config.shortcut else replace(fitted, shortcut=None)

    def changed(self) -> Fitted | None:
        """Another state, where one was put to use since the last time. One that cannot be used is
        told of in the log, and what is in use goes on."""
        if (now := self._history.current_id) == self._in_use:
            return None
        self._in_use = now
        fitted = self.now()
        if isinstance(fitted, NotFitted):
            log.warning("the state %s cannot be used: %s", now, fitted)
            return None
        return fitted


def load_shipped(config: Config, pool: Pool, embedder: Embedder) -> Fitted:
    """The shipped state, whatever the owner has fitted. Raises NotFitted."""
    return Fitted.load(SHIPPED_STATE, pool, embedder.name)


def find_fitted(config: Config, state_id: str, pool: Pool, embedder: Embedder) -> Fitted | None:
    """A fitted state by its id, of the owner's that are kept and the shipped one; None where there
    is none, or it is not of this pool and embedder any more."""
    if kept := FitHistory(config.data_dir).find(state_id, pool, embedder.name):
        return kept
    try:
        shipped = Fitted.load(SHIPPED_STATE, pool, embedder.name)
    except NotFitted:
        return None
    return shipped if shipped.state_id == state_id else None


def load_fitted(config: Config, pool: Pool, embedder: Embedder) -> Fitted:
    """The owner's fitted state or, if the pool is the bundled one, the shipped one.

    Raises NotFitted, with what is wrong with the owner's.
    """
    try:
        folder = FitHistory(config.data_dir).current_dir
        return _annotated_by(config, Fitted.load(folder, pool, embedder.name))
    except NotFitted as own:
        try:
            return _annotated_by(config, Fitted.load(SHIPPED_STATE, pool, embedder.name))
        except NotFitted as shipped:
            raise NotFitted(f"{own} The shipped state does not serve: {shipped}") from None


def _annotated_by(config: Config, fitted: Fitted) -> Fitted:
    """The state, if it was fitted with the annotator that is configured."""
    if fitted.annotator != config.annotator:
        raise NotFitted(
            f"It was fitted with `annotator: {fitted.annotator}`, not {config.annotator}. Change "
            "it back, or fit again: conclave fit"
        )
    return fitted
