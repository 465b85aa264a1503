"""Expert cards: what an expert is, what it needs, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from experts.errors import UnknownPrice
from experts.modes import DIRECT, Mode
from experts.tool_calls import tools_of
from experts.tools.spec import ToolSpec
from experts.values import Arm, Call, Message, Sampling, Usage

ExpertKind = Literal["local", "latent", "vllm", "openai", "litellm", "tool", "human", "fake"]

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
TOOL_EXTRA = frozenset({"parallel_tool_calls", "tools"})
"""The caller's functions; a model writes which it wants called."""
FORCED_TOOL_EXTRA = TOOL_EXTRA | {"tool_choice"}
"""With a choice that forces a call. A model is made to obey by a grammar, or not at all."""
OPENAI_EXTRA = TOKEN_EXTRA | GUIDED_EXTRA | FORCED_TOOL_EXTRA
"""What is handed on to experts behind OpenAI's protocol as it came."""
_MARKUP_TOKENS = 16
"""More than any chat template puts around a message."""
_TOOLS_MARKUP_TOKENS = 600
"""More than templates and providers put around the caller's functions, all together: Qwen 2.5's
template over 100, Anthropic some 300 to 600 (docs.anthropic.com, tool use, pricing)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """Dollars. Free is written as 0; a price that is not known has no ``Prices`` at all."""

    input_usd_per_mtok: float
    output_usd_per_mtok: float
    load_usd_per_s: float = 0.0
    """What a second of loading costs: the machine stands still for it."""
    cached_input_usd_per_mtok: float | None = None
    """Of input that the server still has from calls before; None where it is not known, and then
    such input costs as much as any."""
    call_usd: float = 0.0
    """What a call costs, however many tokens it has: all of a tool's price."""

    def __post_init__(self) -> None:
        for name in ("input_usd_per_mtok", "output_usd_per_mtok", "load_usd_per_s", "call_usd"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise UnknownPrice(
                    f"{name} is {value!r}; a price is a number of dollars, 0 or more. "
                    "Write 0 only for what is really free."
                )
        cached = self.cached_input_usd_per_mtok
        if cached is not None and not 0 <= cached <= self.input_usd_per_mtok:
            raise UnknownPrice(
                f"cached_input_usd_per_mtok is {cached!r}; it is a number of dollars from 0 to "
                f"{self.input_usd_per_mtok:g}, the price of other input. Leave it out where it is "
                "not known."
            )

    @classmethod
    def a_call(cls, call_usd: float) -> Prices:
        """Of what is paid by the call, and for nothing else."""
        return cls(input_usd_per_mtok=0, output_usd_per_mtok=0, call_usd=call_usd)

    def cost_usd(self, usage: Usage, load_s: float = 0.0, *, n_calls: int = 1) -> float:
        """Dollars for tokens, loading and calls. n_calls: 0 for one that was refused before it was
        made, more where it was made again.

        >>> Prices(input_usd_per_mtok=1, output_usd_per_mtok=4).cost_usd(
        ...     Usage(input_tokens=1000, output_tokens=500))
        0.003
        """
        tokens = (
            usage.input_tokens * self.input_usd_per_mtok
            - usage.cached_tokens * self.cached_saves_usd_per_mtok
            + usage.output_tokens * self.output_usd_per_mtok
        )
        return tokens / 1e6 + load_s * self.load_usd_per_s + n_calls * self.call_usd

    @property
    def cached_saves_usd_per_mtok(self) -> float:
        """How much less cached input costs; 0 where that is not known."""
        cached = self.cached_input_usd_per_mtok
        return 0.0 if cached is None else self.input_usd_per_mtok - cached


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
    modes: tuple[Mode, ...] = (DIRECT,)
    """Ways of asking it; each is an arm of its own."""
    version: str = ""
    """Changes when the weights do: what was recorded of another version says nothing of this."""
    price_source: str = STATED
    takes: frozenset[str] = frozenset()
    """Which fields it takes of a call's ``Sampling.extra``."""
    extra_tokens: int = 0
    """That it reads with every prompt beside what was said and a template's marks: the slots of a
    latent expert."""
    tool: ToolSpec | None = None
    """What a tool does and takes. One that cannot answer a question by itself has no ``modes``."""

    @property
    def arms(self) -> tuple[Arm, ...]:
        return tuple(Arm(self.name, mode.name) for mode in self.modes)

    def most_usd(self, call: Call) -> float:
        """Upper bound of what a call can cost, made once; loading is not in it."""
        return self.prices.cost_usd(self.most_usage(call))

    def most_usage(self, call: Call) -> Usage:
        """Upper bound of a call's tokens: no tokenizer makes more tokens than there are bytes."""
        return self.most_usage_of(call.messages, call.sampling)

    def most_usage_of(self, messages: Sequence[Message], sampling: Sampling) -> Usage:
        """As ``most_usage``, of a call that is still to be made."""
        text = sum([_most_tokens(m) for m in messages])
        tools = 0
        if extra := sampling.extra:
            tools = len(dict(extra).get("tools", "").encode())
            tools += _TOOLS_MARKUP_TOKENS if tools_of(extra) else 0
        return Usage(
            input_tokens=min(
                text + tools + _MARKUP_TOKENS + self.extra_tokens, self.context_tokens
            ),
            output_tokens=min(sampling.max_tokens, self.context_tokens),
            estimated=True,
        )


def _most_tokens(message: Message) -> int:
    n = len(message.content.encode()) + _MARKUP_TOKENS
    for c in message.tool_calls:
        n += len(f"{c.id}{c.name}{c.arguments}".encode()) + _MARKUP_TOKENS
    return n
