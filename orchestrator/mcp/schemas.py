"""What the tools take and give, checked; their JSON Schemas are what clients are shown."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from experts.values import Message
from orchestrator.rest.messages import MAX_MESSAGES, Body, ChatMessage, Text, check_order
from orchestrator.rest.schemas import Extension

_MODEL = "A policy (conclave, best, cheap, or the owner's own) or the name of an expert."


class _Conversation(Extension):
    """A question, or a conversation that ends with one, and what the answer may cost."""

    question: Text | None = None
    """What you want to know. Give this or `messages`."""
    messages: list[ChatMessage] | None = Field(default=None, max_length=MAX_MESSAGES)
    """A conversation so far, as at OpenAI; the last message is the one to be answered. Give this or
    `question`."""
    model: str = Field(default="conclave", min_length=1, description=_MODEL)

    @model_validator(mode="after")
    def _asks_one_thing(self) -> _Conversation:
        if (self.question is None) == (self.messages is None):
            raise ValueError("give either question (a text) or messages (a conversation)")
        if self.question is not None and not self.question.strip():
            raise ValueError("question: it is empty; ask something")
        if self.messages is not None:
            check_order(self.messages)
        return self

    def values(self) -> tuple[Message, ...]:
        """The conversation as values."""
        if self.question is not None:
            return (Message(role="user", content=self.question),)
        return tuple(message.value() for message in self.messages or ())

    @property
    def target(self) -> str:
        """Policy or expert: ``conclave/cheap`` is the policy ``cheap``."""
        return self.model.removeprefix("conclave/")


class AskArguments(_Conversation):
    pass


class RouteArguments(_Conversation):
    pass


class ExpertsArguments(Body):
    pass


class _Shown(BaseModel):
    """What a tool gives: a client is told of the fields named here; there may be more."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="allow")


class StandInShown(_Shown):
    asked: str
    answered: str


class AskResult(_Shown):
    text: str
    """The answer, as the expert wrote it; empty where nobody was asked."""
    answer: str
    """The final answer in the text, in the form that is compared: a number, a name, a line."""
    p_correct: float | None
    """How likely it is right, in [0, 1], estimated before a verdict; null where nobody can tell."""
    abstained: bool
    """Nobody was asked: every plan costs more than a wrong answer is said to cost."""
    decision_id: str
    """For the tool `feedback`."""
    plan: str
    """What was done: single, cascade, vote, compose, ...; `only` where the model is an expert."""
    contributors: list[str]
    """Experts whose answers say this."""
    stand_ins: list[StandInShown]
    """Experts that answered in the place of another, which was not loaded."""
    cost_usd: float
    """Everything that was spent: experts and router."""
    router_cost_usd: float
    n_calls: int
    """Calls to experts, failed ones included."""
    latency_s: float
    notes: list[str]
    """What a reader should know: experts that failed, limits that were hit."""


class RouteResult(_Shown):
    decision_id: str
    policy: str
    plan: str
    """What would be done."""
    reason: str


class ExpertShown(_Shown):
    name: str
    kind: str
    description: str
    parameters: int | None
    context_tokens: int
    input_usd_per_mtok: float
    output_usd_per_mtok: float
    cached_input_usd_per_mtok: float | None
    """Of input that it has read before; null where that is not known."""
    price_source: str
    success_by_category: dict[str, float]
    """Share of questions that it is expected to answer right, by category; empty before a fit."""
    is_loaded: bool
    """False: whoever asks it waits for that, and shares its cost."""
    n_waiting: int
    """For it to be loaded."""


class PolicyShown(_Shown):
    name: str
    fallback_price_usd: float
    """What a wrong answer costs, in dollars, where a request does not say."""


class ExpertsResult(_Shown):
    experts: list[ExpertShown]
    policies: list[PolicyShown]
    is_fitted: bool
    """False: only experts can be named as the model, policies cannot."""


class FeedbackResult(_Shown):
    decision_id: str
    recorded: bool
