"""Frozen members and the head that lets them answer as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache

from experts.errors import BadHead
from experts.latent.card import WEIGHTS_FILE, HeadCard, fill_head, read_card
from experts.latent.net.asked import ask, pieces_of
from experts.latent.net.cache_fusion import CacheFusion
from experts.latent.net.form import Form, Link, Thoughts
from experts.latent.net.interaction import Interaction
from experts.latent.net.member import Member
from experts.latent.net.prompts import Prompt
from experts.latent.net.router import Route, Router
from experts.latent.net.soft_prefix import SoftPrefix
from experts.latent.net.thoughts import Reader, slots_used
from experts.local.chat_tokenizer import ChatTokenizer
from experts.values import Message

Alter = Callable[[Thoughts], Thoughts]


class Head(nn.Module):
    """All that is trained."""

    def __init__(self, form: Form, router: Router) -> None:
        super().__init__()
        self.form, self.router = form, router


class Team:
    """Members by name, in the card's order, and a head that fits them."""

    def __init__(self, card: HeadCard, members: Mapping[str, Member]) -> None:
        """An untrained head; ``load`` brings trained weights."""
        self.card = card
        self.members = {name: members[name] for name in card.names}
        self.head = Head(form_of(card), router_of(card))
        first = next(iter(self.members.values()))
        self.head.to(first.device)
        self.head.form.to(first.model.dtype)  # the router decides in single precision

    @classmethod
    def load(cls, head: Path, folders: Mapping[str, Path], *, device: str = "cpu") -> Team:
        """Raises BadHead for a head that is none or fits other models, BadModel for a member that
        is none."""
        card = read_card(head)
        card.check(folders)
        members = {name: Member.load(name, folders[name], device=device) for name in card.names}
        _check_all_bytes(card, members)
        team = cls(card, members)
        fill_head(team.head, head, device=device)
        team.head.eval()
        return team

    def save(self, folder: Path, trained: Mapping[str, Any]) -> None:
        """Weights, in half precision, and card, with how it was trained."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        weights = self.head.state_dict().items()
        tensors = {k: v.detach().cpu().half().contiguous() for k, v in weights}
        save_file(tensors, folder / WEIGHTS_FILE)
        self.card = replace(self.card, trained=dict(trained))
        self.card.save(folder)

    @property
    def form(self) -> Form:
        return self.head.form

    @property
    def n_parameters(self) -> int:
        """Trained ones."""
        return sum(p.numel() for p in self.head.parameters())

    def route(self, messages: Sequence[Message]) -> Route:
        """Who answers a conversation."""
        text = asked_text(messages, self.members[self.card.names[0]].tokenizer)
        return self.head.router.routes([text])[0]

    def read_along(self, route: Route, said: Sequence[int]) -> dict[str, int]:
        """Tokens that each peer reads of what the primary says."""
        if not self.form.reads_along:
            return {}
        primary = self.members[route.primary]
        return {p: len(pieces_of(primary, self.members[p], said, 0)[0]) for p in route.peers}

    @torch.inference_mode()
    def steps(
        self,
        route: Route,
        prompts: Mapping[str, Sequence[Prompt]],
        *,
        alter: Alter = dict,
    ) -> TeamSteps:
        """A batch of questions of one route, to be decoded; prompts are by member. alter: what is
        to happen to the peers' thoughts first, for experiments."""
        return TeamSteps(self, route, prompts, alter)


def _check_all_bytes(card: HeadCard, members: Mapping[str, Member]) -> None:
    """Fingerprints of files are samples; what is loaded is looked at whole. Raises BadHead."""
    for name, wanted in card.trained.get("member_checksums", {}).items():
        if name in members and members[name].checksum() != wanted:
            raise BadHead(
                f"The head was trained with other weights of {name!r}, by their checksum. Use the "
                "model it was trained with, or train a head for this one: conclave latent train."
            )


class TeamSteps:
    """As ``experts.local.decode.Steps``."""

    def __init__(
        self, team: Team, route: Route, prompts: Mapping[str, Sequence[Prompt]], alter: Alter
    ) -> None:
        """Reads the prompts, and thinks."""
        n_slots = team.card.n_slots
        primary = team.members[route.primary]
        readers = {peer: Reader(team.members[peer], prompts[peer]) for peer in route.peers}
        thoughts = alter({peer: reader.think(n_slots) for peer, reader in readers.items()})
        asked = ask(primary, prompts[route.primary], slots_used(primary, thoughts.values()))
        cache = DynamicCache(config=primary.model.config)
        states, self._going = team.form.begin(
            primary, asked, thoughts, cache=cache, readers=readers
        )
        self._device = primary.device
        self._first: torch.Tensor = primary.model.lm_head(states[:, -1])

    def first(self) -> torch.Tensor:
        return self._first

    def next(self, chosen: torch.Tensor) -> torch.Tensor:
        return self._going.step(chosen.to(self._device))

    def keep(self, rows: torch.Tensor) -> None:
        self._going.keep(rows.to(self._device))


def asked_text(messages: Sequence[Message], tokenizer: ChatTokenizer) -> str:
    """What a router reads of a conversation: the last thing that was asked, without marks."""
    text = next((m.content for m in reversed(messages) if m.role == "user"), "")
    return tokenizer.without_marks(text)


def router_of(card: HeadCard) -> Router:
    """Untrained."""
    return Router(card.names, card.top_k)


def form_of(card: HeadCard) -> Form:
    """Untrained."""
    depths = {m.name: m.depth for m in card.members}
    if card.form == "soft_prefix":
        return soft_prefix_of(card)
    if card.form == "cache_fusion":
        cached = {m.name: m.cached for m in card.members}
        return CacheFusion(
            _links(card), _widths(card), card.n_slots, depths=depths, cached=cached, **card.sizes
        )
    return Interaction(_links(card), _widths(card), depths=depths, **card.sizes)


def soft_prefix_of(card: HeadCard) -> SoftPrefix:
    """Untrained."""
    return SoftPrefix(_links(card), _widths(card), card.n_slots, **card.sizes)


def _links(card: HeadCard) -> list[Link]:
    return [Link(a, b) for b in card.names for a in card.names if a != b]


def _widths(card: HeadCard) -> dict[str, int]:
    return {m.name: m.width for m in card.members}
