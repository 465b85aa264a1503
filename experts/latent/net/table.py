"""Of a member that runs elsewhere, what has to be here: its tokens, the embeddings that go in, and
what makes odds of the states that come out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from experts.errors import BadHead, BadModel
from experts.latent import BLANK
from experts.latent.card import fill_head, read_card_for_engines
from experts.latent.net.asked import ask
from experts.latent.net.member import slot_id_of
from experts.latent.net.prompts import Prompt, prompt_of
from experts.latent.net.router import Route
from experts.latent.net.soft_tokens import SoftTokens, soft_tokens
from experts.latent.net.team import Head, asked_text, router_of, soft_prefix_of
from experts.latent.net.thoughts import Thought, heard_answer, slots_used
from experts.local.chat_tokenizer import ChatTokenizer
from experts.values import Message

_TABLES = ("model.embed_tokens.weight", "embed_tokens.weight", "transformer.wte.weight")
_OUTPUTS = ("lm_head.weight", *_TABLES)
"""A model without an output layer of its own uses its embeddings."""


class TableMember:
    """As far as prompts and embeddings go, a ``Member``."""

    def __init__(self, name: str, folder: Path) -> None:
        """Raises BadModel for a folder whose embedding table is not found."""
        self.name = name
        self.tokenizer = ChatTokenizer(folder)
        self.blank_id, self.slot_id = self.tokenizer.id_of(BLANK), slot_id_of(self.tokenizer)
        self.device = torch.device("cpu")
        self._table = _found(folder, _TABLES).float()
        self._output = _found(folder, _OUTPUTS).float()

    @property
    def width(self) -> int:
        """Of its states."""
        return int(self._output.shape[1])

    def prompt(self, messages: Sequence[Message]) -> Prompt:
        return prompt_of(self.tokenizer, messages)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        return self._table[ids]

    def soft_tokens(self, states: torch.Tensor) -> SoftTokens:
        """As ``Member.soft_tokens``."""
        return soft_tokens(states @ self._output.T, self._table, self.tokenizer.end_ids)


class TableTeam:
    """A soft-prefix head, and members that run elsewhere."""

    def __init__(self, head: Path, folders: Mapping[str, Path]) -> None:
        """Raises BadHead for a head of another form, or of other models."""
        self.card = read_card_for_engines(head)
        self.card.check(folders)
        self.members = {name: TableMember(name, folders[name]) for name in self.card.names}
        self._form, self._router = soft_prefix_of(self.card), router_of(self.card)
        fill_head(Head(self._form, self._router), head)

    def route(self, messages: Sequence[Message]) -> Route:
        text = asked_text(messages, self.members[self.card.names[0]].tokenizer)
        return self._router.routes([text])[0]

    def peer_ids(self, peer: str, prompt: Prompt) -> list[int]:
        """What a peer is to read: the prompt, and the blanks at which it thinks. Raises BadHead for
        one that cannot think at once."""
        blank = self.members[peer].blank_id
        if blank is None:
            raise BadHead(
                f"{peer} has no {BLANK} token: it thinks by speaking, which takes a pass a token "
                "and cannot be asked of a pooling engine."
            )
        return [*prompt.ids, *([blank] * (self.card.n_slots - 1))]

    @torch.inference_mode()
    def prompt_embeddings(
        self, route: Route, prompts: Mapping[str, Prompt], states: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """(length, width): the primary's prompt, its slots filled. states: of each peer at the last
        ``n_slots`` places of what it read, (n_slots, width)."""
        primary = self.members[route.primary]
        thoughts = {}
        for peer in route.peers:
            member = self.members[peer]
            soft = member.soft_tokens(states[peer][None])
            words = soft.words(member.tokenizer)
            thoughts[peer] = Thought(None, heard_answer([prompts[peer]], soft), words)
        asked = ask(primary, [prompts[route.primary]], slots_used(primary, thoughts.values()))
        return self._form.embeddings(primary, asked, thoughts)[0][asked.mask[0].bool()]


def _found(folder: Path, wanted: Sequence[str]) -> torch.Tensor:
    """The first tensor of these names. Raises BadModel where there is none."""
    from safetensors import safe_open

    index = folder / "model.safetensors.index.json"
    shards: dict[str, str] = {}
    if index.is_file():
        shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    for name in wanted:
        paths = [folder / shards[name]] if name in shards else folder.glob("*.safetensors")
        for path in paths:
            with safe_open(path, framework="pt") as tensors:
                if name in tensors.keys():  # noqa: SIM118 - it is no mapping
                    tensor: torch.Tensor = tensors.get_tensor(name)
                    return tensor
    raise BadModel(f"{folder.name}: no tensor among {', '.join(wanted)}.")
