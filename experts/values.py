"""The values that pass between rooms: messages, queries, arms, calls, completions.

Frozen and free of behaviour beyond what their own fields say. Scores live in ``routers.scores``,
answers in ``orchestrator.answer``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls", "error", "cancelled"]
Purpose = Literal["answer", "explore", "record", "judge", "plan", "load", "annotate"]
"""What a call is for: an answer (or a part of one), an outcome to learn from, a verdict on an
answer, advice on what to ask whom, loading, or the skills of a question."""
ErrorCode = Literal[
    "context_too_long",
    "refused",  # today and tomorrow: a content filter does not like it, or it asks for nonsense
    "timeout",
    "over_limit",  # of the request
    "over_budget",  # of whoever pays
    "auth",  # a key or its account is refused: no call to this expert can succeed
    "unreachable",  # nobody listens there, or not under this model's name
    "failed",
]

UNASKED: frozenset[ErrorCode] = frozenset({"over_limit", "over_budget"})
"""Of calls that were never made."""


def encodable(text: str) -> str:
    """The text itself. Raises ValueError for half a character (a lone surrogate, which JSON can
    write and UTF-8 cannot): tokenizers and databases would fail on it later."""
    if text.isascii():  # which a string knows of itself
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"half a character at position {error.start}: a lone surrogate is not text"
        ) from None
    return text


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall:
    """A model's wish that one of the caller's functions be called."""

    id: str
    name: str
    arguments: str
    """As the model wrote them: meant to be a JSON object, and not always one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    """Of an assistant that wants functions called before it goes on."""
    tool_call_id: str = ""
    """Of a tool's message: the call whose result it is."""


@dataclass(frozen=True, slots=True, order=True)
class Arm:
    """What a router scores and a strategy calls: an expert, asked in one of its modes."""

    expert: str
    mode: str = "direct"

    def __str__(self) -> str:
        return self.expert if self.mode == "direct" else f"{self.expert}:{self.mode}"

    @classmethod
    def parse(cls, text: str) -> Arm:
        """Inverse of ``str``: ``"units"`` or ``"units:reason"``."""
        expert, _, mode = text.partition(":")
        return cls(expert, mode or "direct")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How tokens are chosen."""

    max_tokens: int = 96
    temperature: float = 0.0
    """In [0, 2]; 0 is greedy."""
    top_p: float = 1.0
    """In (0, 1]."""
    seed: int = 0
    stop: tuple[str, ...] = ()
    extra: tuple[tuple[str, str], ...] = ()
    """Further fields of OpenAI's protocol, each as JSON text, that only some experts take
    (``ExpertCard.takes``): tools, guided output, log-probabilities of tokens, penalties."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a caller allows one query to use; None is no limit."""

    max_cost_usd: float | None = None
    max_calls: int | None = None
    timeout_s: float | None = None
    """For each call, from asking to its last token."""
    max_s: float | None = None
    """For all calls together: those that are made at once count as long as the longest of them."""
    experts: frozenset[str] | None = None
    """Only these may be asked."""


NO_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """One question to be answered."""

    query_id: str
    messages: tuple[Message, ...]
    fallback_price_usd: float
    """V: what an unsolved query costs its owner, in dollars; above 0."""
    limits: Limits = NO_LIMITS
    sampling: Sampling = field(default_factory=Sampling)
    caller: str = ""
    """Whom fairness is owed to: a user, a tenant; empty where nobody said. It is not recorded."""
    account: str = ""
    """Who pays: the id of a virtual key; empty where nobody is asked for one."""

    @property
    def text(self) -> str:
        """The last user message: what the router reads."""
        return next(m.content for m in reversed(self.messages) if m.role == "user")


@dataclass(frozen=True, kw_only=True, slots=True)
class StandIn:
    """Another arm that may answer a call while loading the one that was asked costs more."""

    arm: Arm
    loss_usd: float
    """What its answer is expected to be worth less, loads not counted: (P(right) of the asked -
    P(right) of this) x V + price of this - price of the asked. Negative when it is better."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One request to one arm."""

    query_id: str
    arm: Arm
    messages: tuple[Message, ...]
    sampling: Sampling
    sample: int = 0
    """Which of several samples of the same arm this is; recorded outcomes are looked up by it."""
    prompt: str = ""
    """A digest of its messages where they are not the query's own (a judge's, a hint's, an answer
    that is made of others): what a recorded completion is looked up by, with arm and sample."""
    purpose: Purpose = "answer"
    timeout_s: float | None = None
    """After this long the expert stops and reports a failed completion, charged for its work."""
    max_cost_usd: float | None = None
    """Dollars that are reserved for it; an expert does not begin another attempt that could pass
    them. None where nobody counts."""
    streams_answer: bool = False
    """If this call succeeds its text is the answer, so its tokens may be shown as they come."""
    caller: str = ""
    """Whom fairness is owed to."""
    account: str = ""
    """Who pays."""
    stand_ins: tuple[StandIn, ...] = ()
    """Who else may answer it, by the caller's leave."""

    @property
    def experts(self) -> frozenset[str]:
        """Who may answer."""
        return frozenset({self.arm.expert, *(s.arm.expert for s in self.stand_ins)})


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadOutlook:
    """A load that stands between an expert and its next answer."""

    load_s: float | None
    """Expected seconds, waiting for its turn not included; None where the expert cannot tell."""
    n_waiting: int = 0
    """Calls that wait for this load already, and share its price."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Tokens of one call."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Of the input, what the server says it still had from calls before; others do not tell."""
    estimated: bool = False
    """The server did not count, so these are upper bounds: a bill that nobody sent is not zero."""

    def __add__(self, other: Usage) -> Usage:
        """Of several attempts at one call."""
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            estimated=self.estimated or other.estimated,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """What became of a call. A failed call is a completion with an ``error``."""

    call: Call
    """Its arm is the one that answered, so whatever is learned of the answer is learned of it; and
    the one that was asked, but where another stood in for it."""
    stood_in_for: Arm | None = None
    """The arm that was asked, where a stand-in answered."""
    text: str = ""
    answer: str = ""
    """The final answer in the text, normalised for comparison (``experts.answers``)."""
    tool_calls: tuple[ToolCall, ...] = ()
    """What it wants called; the answer then is these calls, in a form that can be compared."""
    usage: Usage = field(default_factory=Usage)
    cost_usd: float = 0.0
    """What was spent, the load included, also when the call failed."""
    latency_s: float = 0.0
    """From asking to the last token, waiting and loading included."""
    load_s: float = 0.0
    """Seconds that loading the expert took for this call."""
    n_batch: int = 1
    """Calls that were decoded together with this one, itself included: they slow each other."""
    logprob: float | None = None
    """Natural log-probability of the whole text under the expert; None where it is not told."""
    own_odds: float | None = None
    """Log-odds that the answer is right, as a scorer reads them off the expert's own states
    (``experts.scoring``); None where there is none."""
    token_logprobs: str | None = None
    """OpenAI's list of tokens with their log-probabilities, as JSON; None unless the call's
    ``extra`` asks for ``logprobs``."""
    finish_reason: FinishReason = "stop"
    error: str | None = None
    error_code: ErrorCode | None = None

    @property
    def ok(self) -> bool:
        return self.error is None

    @property
    def asked(self) -> Arm:
        """The arm that the call was for, whoever answered."""
        return self.stood_in_for or self.call.arm


def failed_completion(
    call: Call,
    error: str,
    code: ErrorCode = "failed",
    *,
    text: str = "",
    usage: Usage = Usage(),
    cost_usd: float = 0.0,
    latency_s: float = 0.0,
    n_batch: int = 1,
) -> Completion:
    """Of a call that came to nothing, with what it had and used until then."""
    return Completion(
        call=call,
        text=text,
        usage=usage,
        cost_usd=cost_usd,
        latency_s=latency_s,
        n_batch=n_batch,
        finish_reason="error",
        error=error,
        error_code=code,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Delta:
    """A piece of a streaming completion, with the usage so far: a broken stream is still paid."""

    text: str
    usage: Usage
