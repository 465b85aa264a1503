"""Expert cards: what an expert is, what it needs, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from experts.errors import UnknownPrice
from experts.values import Arm, Call, Usage

ExpertKind = Literal["local", "vllm", "openai", "litellm", "fake"]

STATED = "stated by the owner"
TOKEN_EXTRA = frozenset(
    {"frequency_penalty", "logit_bias", "logprobs", "presence_penalty", "top_logprobs"}
)
"""What needs nothing but tokens."""
GUIDED_EXTRA = frozenset(
    {
        "guided_choice",
        "guided_grammar",
        "guided_json",
        "guided_regex",
        "response_format",
        "structured_outputs",
    }
)
"""What forces an answer into a form; ``guided_*`` and ``structured_outputs`` are vLLM's own
(docs.vllm.ai, structured outputs)."""
OPENAI_EXTRA = TOKEN_EXTRA | GUIDED_EXTRA
"""What is handed on to experts behind OpenAI's protocol as it came."""
_MARKUP_TOKENS = 16
"""More than any chat template puts around a message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """Dollars. Free is written as 0; a price that is not known has no ``Prices`` at all."""

    input_usd_per_mtok: float
    output_usd_per_mtok: float
    load_usd_per_s: float = 0.0
    """What a second of loading costs: the machine stands still for it."""

    def __post_init__(self) -> None:
        for name in ("input_usd_per_mtok", "output_usd_per_mtok", "load_usd_per_s"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise UnknownPrice(
                    f"{name} is {value!r}; a price is a number of dollars, 0 or more. "
                    "Write 0 only for what is really free."
                )

    def cost_usd(self, usage: Usage, load_s: float = 0.0) -> float:
        """Dollars for tokens and loading.

        >>> Prices(input_usd_per_mtok=1, output_usd_per_mtok=4).cost_usd(
        ...     Usage(input_tokens=1000, output_tokens=500))
        0.003
        """
        tokens = (
            usage.input_tokens * self.input_usd_per_mtok
            + usage.output_tokens * self.output_usd_per_mtok
        )
        return tokens / 1e6 + load_s * self.load_usd_per_s


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertCard:
    """The public description of an expert."""

    name: str
    kind: ExpertKind
    description: str
    prices: Prices
    context_tokens: int
    """Prompt and answer together."""
    parameters: int | None = None
    memory_bytes: int | None = None
    """Weights as they are held when loaded."""
    modes: tuple[str, ...] = ("direct",)
    version: str = ""
    """Changes when the weights do: what was recorded of another version says nothing of this."""
    price_source: str = STATED
    takes: frozenset[str] = frozenset()
    """Which fields it takes of a call's ``Sampling.extra``."""

    @property
    def arms(self) -> tuple[Arm, ...]:
        return tuple(Arm(self.name, mode) for mode in self.modes)

    def most_usd(self, call: Call) -> float:
        """Upper bound of what a call can cost in tokens; loading is not in it."""
        return self.prices.cost_usd(self.most_usage(call))

    def most_usage(self, call: Call) -> Usage:
        """Upper bound of a call's tokens: no tokenizer makes more tokens than there are bytes."""
        text = sum(len(m.content.encode()) + _MARKUP_TOKENS for m in call.messages)
        return Usage(
            input_tokens=min(text + _MARKUP_TOKENS, self.context_tokens),
            output_tokens=min(call.sampling.max_tokens, self.context_tokens),
            estimated=True,
        )
