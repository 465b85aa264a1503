"""Errors that people can act on.

    ConclaveError
    ├── UserError             the caller can mend it; shown without a traceback
    │   ├── UnknownName       no setting, grader, strategy, ... of that name
    │   │   └── UnknownExpert no expert (or policy) of that name in the pool
    │   ├── UnknownPrice      an expert without prices: never taken as free
    │   ├── ConfigError       conclave.yaml does not say what it must
    │   ├── NotFitted         learned state is missing or belongs to another pool
    │   ├── DataError         a questions or outcomes file is not what it should be
    │   ├── UnknownDecision   feedback on what the ledger does not have
    │   ├── KeyReused         an idempotency key stands for another request already
    │   ├── LimitReached      the caller's own limits allow no call
    │   ├── Forbidden         the caller's key is not for this
    │   ├── OverBudget        the caller's key has not enough left
    │   ├── ContextTooLong    the conversation fits no expert that may answer it
    │   ├── RunBusy           another process works on that durable run
    │   ├── RunChanged        a durable run's strategy asks otherwise than it did when it began
    │   ├── BadHead       a latent head is none, or was trained with other models
    │   ├── BadModel          a folder is not a model, or an adapter not of this base
    │   └── DoesNotFit        a model's weights are larger than every slot
    ├── EngineFailed          a vLLM process would not start, died, or hung
    ├── ToolServerFailed      an MCP server would not start, is not there, or died
    ├── PolicyError           a residency policy asked for what cannot be, or for nothing at all
    └── ExpertFailure         every expert that was asked failed

Each says what was wrong, what would be right, and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConclaveError(Exception):
    """Root of what Conclave raises on purpose."""


class UserError(ConclaveError):
    """Something that the caller can mend."""


class UnknownName(UserError):
    """No ``what`` of that name."""

    def __init__(self, name: str, known: Iterable[str], *, what: str) -> None:
        self.name, self.known = name, sorted(known)
        super().__init__(
            f"Unknown {what} {name!r}.{did_you_mean(name, self.known)} "
            f"Known: {', '.join(self.known) or 'none'}."
        )


class UnknownExpert(UnknownName):
    """No expert (or policy) of that name."""

    def __init__(self, name: str, known: Iterable[str], *, what: str = "expert") -> None:
        super().__init__(name, known, what=what)


class UnknownPrice(UserError):
    """An expert's price is not known; a guess of zero would make it win every comparison."""


class ConfigError(UserError):
    """The configuration is not valid."""


class NotFitted(UserError):
    """The router has not learned anything about this pool yet."""


class DataError(UserError):
    """A data file cannot be used as it is."""


class UnknownDecision(UserError):
    """The ledger has no decision of that id."""

    def __init__(self, decision_id: str) -> None:
        self.decision_id = decision_id
        super().__init__(f"There is no decision {decision_id!r} in the ledger.")


class KeyReused(UserError):
    """An idempotency key was given with another request before."""


class LimitReached(UserError):
    """The caller's limits on dollars, calls or experts leave nobody to ask."""


class Forbidden(UserError):
    """The caller's key is good, and not for this."""


class OverBudget(UserError):
    """Whoever pays has not enough left, of dollars or of tokens a minute."""


class ContextTooLong(UserError):
    """The conversation is longer than any expert can read."""


class RunBusy(UserError):
    """A durable run that another process, or another task of this one, is working on."""


class RunChanged(UserError):
    """Followed again, a durable run's strategy does not make the calls that are recorded."""


class BadHead(UserError):
    """A latent head cannot be used with these models, or is none."""


class BadScorer(UserError):
    """A scorer of answers cannot be used with this model, or is none."""


class BadModel(UserError):
    """A folder does not hold what an engine could load."""


class EngineFailed(ConclaveError):
    """An engine would not start, died, hung, or would not do what it was told."""

    def __init__(
        self,
        message: str,
        *,
        log: str = "",
        is_port_taken: bool = False,
        is_hung: bool = False,
        is_killed: bool = False,
    ) -> None:
        """log: the last lines that the engine wrote. is_port_taken: another try may have luck.
        is_hung: it was given up after a long time, so another try is dear. is_killed: somebody
        else ended it, so it says little about the model."""
        super().__init__(f"{message}\n{log}" if log else message)
        self.log, self.is_port_taken = log, is_port_taken
        self.is_hung, self.is_killed = is_hung, is_killed


class ToolServerFailed(ConclaveError):
    """An MCP server cannot be asked."""


class DoesNotFit(UserError):
    """A model needs more memory than any slot has."""


class PolicyError(ConclaveError):
    """A residency policy asked for what cannot be, or leaves requests waiting for ever."""


class ExpertFailure(ConclaveError):
    """All experts that were asked failed."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
