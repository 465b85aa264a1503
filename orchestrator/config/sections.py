"""The configuration's other sections: ``runs``, ``keywords``, ``server``, ``learning`` and
``exploration``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from orchestrator.config.fields import ExpertName, Strict
from routers.online import LearningRates
from skills.keywords import N_PASSES, TEMPERATURE

_RATES = LearningRates()
HostName = Annotated[
    str, Field(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)$")
]


RedisURL = Annotated[str, Field(pattern=r"^(rediss?://[^@]+|unix://[^@]+)$")]
"""Without a password: configuration files are shown to others."""


class RunSettings(Strict):
    """Durable runs (`conclave runs`)."""

    approval_usd: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """A plan that is expected to cost more, or a call that may, waits for a person's yes."""
    approval_deadline_s: float = Field(default=604_800, gt=0, allow_inf_nan=False)
    """Without a yes by then it is a no."""
    resume_at_start: bool = True
    """A server that starts goes on with the runs that were left; what another process works on is
    left to it."""


class KeywordSettings(Strict):
    """An expert that is asked for the skills of questions: each time several calls, which are
    charged as any others."""

    expert: ExpertName
    passes: int = Field(default=N_PASSES, ge=1, le=20)
    """Keywords that more than one pass names are kept."""
    temperature: float = Field(default=TEMPERATURE, ge=0, le=2)
    max_tokens: int = Field(default=48, ge=1)
    """Of each list."""
    max_fit_usd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """The most that one `conclave fit` may pay for labelling."""
    first_step: bool = False
    """Ask also about every question that is put to a policy, before it is decided who answers."""


class ServerSettings(Strict):
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    open_to_all: bool = False
    """Listen beyond this machine although there are no keys: whoever reaches the port spends."""
    redis_url: RedisURL | None = None
    """Where keys are kept, and what they use is counted, for several servers together; without, in
    the data folder of each. A password is read from CONCLAVE_REDIS_PASSWORD."""
    max_body_bytes: int = Field(default=1_000_000, ge=1000)
    idempotency_kept_s: float = Field(default=86_400, gt=0, allow_inf_nan=False)
    """For so long a request that is sent again with its `Idempotency-Key` gets the same answer."""
    allowed_hosts: list[HostName] = []
    """Names (without port) under which agents reach /mcp, beside this machine's own and `host`;
    whatever else a request's Host or Origin says is refused there."""


class LearningSettings(Strict):
    """How outcomes of use change what is believed."""

    enabled: bool = True
    half_life_n: float = Field(default=_RATES.half_life_n, ge=1, allow_inf_nan=False)
    """Outcomes of an expert after which an outcome counts half."""
    prior_n: float = Field(default=_RATES.prior_n, ge=1, allow_inf_nan=False)
    """Outcomes that what was fitted of an expert on a skill counts for, at most."""
    max_shift: float = Field(default=_RATES.max_shift, gt=0, le=10)
    """Bound on every change of a belief, in log-odds."""
    max_feedback_per_caller_day: float = Field(default=5, ge=0, allow_inf_nan=False)
    """How much feedback of one key on one expert counts a day (UTC); all without a key are one."""
    max_feedback_per_day: float = Field(default=10, ge=0, allow_inf_nan=False)
    """Likewise, of all callers together: without API keys anybody can be many."""
    refit_every_n: int | None = Field(default=None, ge=1)
    """A server fits anew in the background when so many outcomes have come; None is never."""
    keep_fits: int = Field(default=10, ge=2)
    """Fitted states that are kept for ``conclave fit restore``."""


class ExplorationSettings(Strict):
    """What may be spent on asking experts of whom too little is known. None unless both numbers
    are above 0."""

    usd_per_day: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """The most that exploring calls may cost in a day (UTC)."""
    share: float = Field(default=0.0, ge=0, le=1)
    """The largest share of the questions that may be used for it."""
    min_sd: float = Field(default=0.04, ge=0, le=0.5)
    """Only of experts whose P(right) today is not known better than this."""
