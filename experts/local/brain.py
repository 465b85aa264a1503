"""What an in-process expert thinks with: one model, or several that answer as one.

``Brain`` is the seam: the expert keeps threads, deadlines and the shape of completions; a brain
loads weights, turns calls into prompts, decodes batches of them and knows what that costs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from experts.cards import Prices
from experts.local.chat_tokenizer import ChatTokenizer
from experts.local.decode import ModelSteps, Token, decode
from experts.tool_formats import ToolFormat
from experts.values import Call, Sampling, ToolCall, Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class Put:
    """A call as a brain reads it."""

    call: Call
    prompt: Any
    """The brain's own."""
    n_context: int
    """Tokens of the prompt, as the model reads it that reads most of it."""
    n_read: int
    """Tokens that are read before the first is said, by all models together."""
    cost_usd: Callable[[Sequence[int]], float]
    """Dollars, when these tokens have been said."""
    detokenize: Callable[[list[int]], str]
    end_ids: frozenset[int]
    """Tokens that end an answer."""


class Brain(Protocol):
    """Called in this order, and all of it by one thread."""

    def prepare(self) -> None:
        """Imports: seconds of this process, and not of this model. Raises as ``load``."""
        ...

    def load(self) -> None:
        """Raises what libraries raise for broken folders: many things."""
        ...

    def put(self, call: Call) -> Put:
        """Raises what a chat template raises, and ValueError for what this brain cannot read."""
        ...

    def decode(self, puts: Sequence[Put], samplings: Sequence[Sampling]) -> Generator[list[Token]]:
        """One token of each row that is still going, a step; close it to stop early."""
        ...

    def read(self, text: str, call: Call) -> tuple[str, tuple[ToolCall, ...]]:
        """What was said: the text, and the functions that it wants called."""
        ...


def import_model_code(folder: Path) -> None:
    """transformers imports a model's code when it is looked up, and talks about it."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    MODEL_FOR_CAUSAL_LM_MAPPING.get(type(AutoConfig.from_pretrained(folder)), None)


class LocalBrain:
    """One causal LM in a local folder."""

    def __init__(
        self,
        folder: Path,
        prices: Prices,
        *,
        device: str,
        tool_format: ToolFormat | None,
        scorer: Path | None = None,
    ) -> None:
        """scorer: folder of one that was trained for this model."""
        self._folder, self._prices, self._device = folder, prices, device
        self._tool_format: ToolFormat | None = tool_format
        self._model: Any = None
        self._tokenizer: Any = None
        self._scorer_folder = scorer
        self._scorer: Any = None

    def prepare(self) -> None:
        import_model_code(self._folder)

    def load(self) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self._tokenizer = ChatTokenizer(self._folder, self._tool_format)
        model = AutoModelForCausalLM.from_pretrained(
            self._folder,
            dtype=torch.float32,
            use_safetensors=True,  # a pickle beside them would run code
        )
        self._model = model.to(self._device).eval()
        if self._scorer_folder is not None:
            from experts.scoring.scorer import AnswerScorer

            self._scorer = AnswerScorer.load(self._scorer_folder, self._folder)

    def put(self, call: Call) -> Put:
        ids = self._tokenizer.encode(call)

        def cost_usd(said: Sequence[int]) -> float:
            return self._prices.cost_usd(Usage(input_tokens=len(ids), output_tokens=len(said)))

        return Put(
            call=call,
            prompt=ids,
            n_context=len(ids),
            n_read=len(ids),
            cost_usd=cost_usd,
            detokenize=self._tokenizer.decode,
            end_ids=self._tokenizer.end_ids,
        )

    def decode(self, puts: Sequence[Put], samplings: Sequence[Sampling]) -> Generator[list[Token]]:
        prompts = [put.prompt for put in puts]
        steps = ModelSteps(self._model, prompts, pad_id=self._tokenizer.pad_id)
        decoding = decode(steps, samplings, end_ids=self._tokenizer.end_ids)
        if self._scorer is None:
            return decoding
        scored: Generator[list[Token]] = self._scorer.scored(self._model, decoding, len(puts))
        return scored

    def read(self, text: str, call: Call) -> tuple[str, tuple[ToolCall, ...]]:
        said: tuple[str, tuple[ToolCall, ...]] = self._tokenizer.read(text, call)
        return said
