"""One frozen model of a latent expert: its tokens, its weights, its states."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch

from experts.errors import BadModel
from experts.latent import BLANK
from experts.latent.net.prompts import Prompt, prompt_of
from experts.latent.net.soft_tokens import SoftTokens, soft_tokens
from experts.local.brain import import_model_code
from experts.local.chat_tokenizer import ChatTokenizer
from experts.values import Message


def slot_id_of(tokenizer: ChatTokenizer) -> int:
    """The token that stands where a slot is, before the head has filled it."""
    blank = tokenizer.id_of(BLANK)
    return tokenizer.pad_id if blank is None else blank


class Embedded(Protocol):
    """As much of a member as makes its prompts: a whole one, or one that runs elsewhere."""

    @property
    def name(self) -> str: ...

    @property
    def tokenizer(self) -> ChatTokenizer: ...

    @property
    def slot_id(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """(..., width)."""
        ...


@dataclass(frozen=True)
class Member:
    """A causal LM of the Llama kind, that is: ``model.model.layers``, rotary positions. Nothing
    trains it: its parameters take no gradient, and ``checksum`` proves it."""

    name: str
    model: Any
    tokenizer: ChatTokenizer
    blank_id: int | None

    @classmethod
    def load(cls, name: str, folder: Path, *, device: str = "cpu", dtype: Any = None) -> Member:
        """Raises BadModel for a folder that holds no model that can be cut into layers."""
        from transformers import AutoModelForCausalLM

        import_model_code(folder)
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype or torch.float32, use_safetensors=True
        )
        inner = getattr(model, "model", None)
        if not all(hasattr(inner, part) for part in ("layers", "rotary_emb", "norm")):
            raise BadModel(
                f"{folder.name} is a {model.config.model_type}; members of a latent expert are "
                "models of the Llama kind (Llama, Mistral, Qwen 2 and 3, ...)."
            )
        model.requires_grad_(False).eval().to(device)
        tokenizer = ChatTokenizer(folder)
        return cls(name, model, tokenizer, tokenizer.id_of(BLANK))

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @property
    def context_tokens(self) -> int:
        return int(self.model.config.max_position_embeddings)

    @cached_property
    def slot_id(self) -> int:
        return slot_id_of(self.tokenizer)

    def prompt(self, messages: Sequence[Message]) -> Prompt:
        return prompt_of(self.tokenizer, messages)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """(..., width)."""
        embedded: torch.Tensor = self.model.get_input_embeddings()(ids)
        return embedded

    def soft_tokens(self, states: torch.Tensor) -> SoftTokens:
        """What last hidden states, (n, n_slots, width), are about to say."""
        table = self.model.get_input_embeddings().weight
        return soft_tokens(self.model.lm_head(states), table, self.tokenizer.end_ids)

    def checksum(self) -> str:
        """16 hex digits of all weights: equal before and after a training that left them alone."""
        digest = hashlib.blake2b(digest_size=8)
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
        return digest.hexdigest()
