"""Interaction layers: after each stack of its layers the primary attends to what its peers think.

Source: Mixture of Thoughts (arXiv 2509.21164), with the defects of its published code mended. A
position sees of a peer what ends at its own byte of the shared text or before it, and nothing else.
Peers do not depend on the primary: they read the prompt once and then along with what it says, and
their last states serve all stacks. The layers act whenever the primary runs, at generation too,
where its cache keeps what they did before. Each begins as nothing at all: its last matrix is zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from experts.latent.net.asked import Asked, new_piece
from experts.latent.net.form import (
    Form,
    Going,
    Link,
    Thoughts,
    relative_error,
    straight_through,
)
from experts.latent.net.member import Member
from experts.latent.net.thoughts import Heard, Reader, Thought

_N_DISTANCES = 18
"""Bytes between a position and what it attends to; all that is farther is as far as the last."""


class Interaction(Form):
    """Layers for each link: adapters of what the peer thinks, and attention at each cut."""

    reads_along = True

    def __init__(
        self,
        links: Sequence[Link],
        widths: Mapping[str, int],
        *,
        depths: Mapping[str, int],
        n_stacks: int = 4,
        inner: int = 128,
        wide: int = 192,
    ) -> None:
        """depths: layers of each member. The first cut is before the first layer, the others
        between stacks of about as many layers."""
        super().__init__(links)
        self.cuts = {m: cuts_of(depth, n_stacks) for m, depth in depths.items()}
        self.adapters = nn.ModuleDict(
            {k.key: _Adapters(widths[k.peer], wide, inner) for k in links}
        )
        self.layers = nn.ModuleDict(
            {
                k.key: nn.ModuleList(
                    _Attention(widths[k.primary], inner) for _ in self.cuts[k.primary]
                )
                for k in links
            }
        )

    def begin(
        self,
        primary: Member,
        asked: Asked,
        thoughts: Thoughts,
        log_gates: torch.Tensor | None = None,
        *,
        cache: Any = None,
        readers: Mapping[str, Reader] | None = None,
    ) -> tuple[torch.Tensor, Going]:
        heard = self._hearing(primary, thoughts, log_gates)
        with _attending(primary, heard, asked.ends):
            states = self._states(primary, asked, cache)
        going = _GoingOn(primary, cache, asked, heard, list((readers or {}).values()))
        return states[:, -asked.n_tail :], going

    def teach(self, primary: Member, asked: Asked, thoughts: Thoughts, told: Asked) -> torch.Tensor:
        """Of the states that go into the first layer: as if it had been said. What the later cuts
        are for, the language loss alone can tell."""
        states = primary.embed(asked.ids)
        made = states
        for one in self._hearing(primary, thoughts, None):
            made = made + one.at(0, states, asked.ends)
        return relative_error(made, primary.embed(told.ids), asked.mask)

    def _states(self, primary: Member, asked: Asked, cache: Any) -> torch.Tensor:
        states: torch.Tensor = primary.model.model(
            inputs_embeds=primary.embed(asked.ids),
            attention_mask=asked.mask,
            position_ids=asked.positions,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        return states

    def _hearing(
        self, primary: Member, thoughts: Thoughts, log_gates: torch.Tensor | None
    ) -> list[_Hearing]:
        found = []
        for i, (peer, thought) in enumerate(thoughts.items()):
            key = Link(peer, primary.name).key
            layers = cast(nn.ModuleList, self.layers[key])
            adapters = cast(_Adapters, self.adapters[key])
            ears = _Ears(self.cuts[primary.name], adapters, layers)
            gate = None if log_gates is None else straight_through(log_gates)[:, i]
            found.append(ears.hear(thought, gate))
        return found


def cuts_of(depth: int, n_stacks: int) -> tuple[int, ...]:
    """How many layers are below each cut.

    >>> cuts_of(4, 4), cuts_of(32, 4)
    ((0, 1, 2, 3), (0, 8, 16, 24))
    """
    return tuple(dict.fromkeys(depth * i // n_stacks for i in range(n_stacks)))


class _Adapter(nn.Module):
    def __init__(self, width: int, wide: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.into = nn.Linear(width, wide)
        self.out = nn.Linear(wide, inner)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.out(nn.functional.gelu(self.into(self.norm(states))))
        return made


class _Adapters(nn.Module):
    """One for the soft tokens of a peer's answer, one for its states over what it has read."""

    def __init__(self, width: int, wide: int, inner: int) -> None:
        super().__init__()
        self.answer = _Adapter(width, wide, inner)
        self.read = _Adapter(width, wide, inner)


class _Attention(nn.Module):
    """Of a primary's positions to a peer's, one head a distance profile; attending to nothing is
    one of the choices."""

    def __init__(self, width: int, inner: int, n_heads: int = 2) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, inner)
        self.key = nn.Linear(inner, inner)
        self.value = nn.Linear(inner, inner)
        self.out = nn.Linear(inner, width, bias=False)
        nn.init.zeros_(self.out.weight)
        # Heads begin by looking one and two bytes back: a slot's own state, and the one before it.
        far = (torch.arange(_N_DISTANCES)[None] - torch.arange(1, n_heads + 1)[:, None]).abs()
        self.near = nn.Parameter(-5.0 * far.clamp(max=2).float())
        # What a peer has read begins unheard beside its answer: teaching is about answers.
        self.read = nn.Parameter(torch.full((n_heads,), -5.0))

    def project(self, states: torch.Tensor) -> KeysValues:
        """Of a peer's adapted states: once, however often they are attended to."""
        return self._heads(self.key(states)), self._heads(self.value(states))

    def forward(
        self, states: torch.Tensor, keys_values: KeysValues, scores: torch.Tensor
    ) -> torch.Tensor:
        """What is added to ``states``, (n, length, width). scores: what is known of each pair of
        places beforehand, (n, n_heads, length, heard), with the lowest of numbers where one is not
        seen."""
        keys, values = keys_values
        query = self._heads(self.query(self.norm(states)))
        found = query @ keys.transpose(-1, -2) / query.shape[-1] ** 0.5
        nothing = found.new_zeros(*found.shape[:3], 1)
        weights = torch.cat([found + scores, nothing], -1).softmax(-1)[..., :-1]
        made: torch.Tensor = self.out((weights @ values).transpose(1, 2).flatten(2))
        return made

    def known(self, apart: torch.Tensor, is_read: torch.Tensor) -> torch.Tensor:
        """Scores before anything is compared, (n, n_heads, length, heard), of distances in bytes,
        (n, length, heard), and of what is no answer, (heard,) bool."""
        near = self.near[:, apart.clamp(0, _N_DISTANCES - 1)].transpose(0, 1)
        return near + self.read[:, None, None] * is_read

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(*x.shape[:2], self.n_heads, -1).transpose(1, 2)


KeysValues = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class _Ears:
    """The layers by which a primary hears one peer."""

    cuts: tuple[int, ...]
    adapters: _Adapters
    layers: nn.ModuleList

    def hear(self, thought: Thought, log_gate: torch.Tensor | None) -> _Hearing:
        heard = self._hearing(thought.answer, log_gate, is_read=False)
        for read in (thought.prompt, thought.along):
            if read is not None:
                heard = heard.then(read)
        return heard

    def read(self, heard: Heard) -> _Hearing:
        return self._hearing(heard, None, is_read=True)

    def _hearing(self, heard: Heard, log_gate: torch.Tensor | None, *, is_read: bool) -> _Hearing:
        adapter = self.adapters.read if is_read else self.adapters.answer
        adapted = adapter(heard.states)
        projected = tuple(cast(_Attention, layer).project(adapted) for layer in self.layers)
        kind = torch.full(heard.ends.shape[1:], is_read, device=heard.ends.device)
        return _Hearing(self, projected, heard.ends, heard.mask, kind, log_gate)


@dataclass(frozen=True)
class _Hearing:
    """What one peer has to say to a batch, as each of the layers hears it."""

    ears: _Ears
    projected: tuple[KeysValues, ...]
    """Keys and values at each cut, (n, n_heads, heard, inner / n_heads)."""
    ends: torch.Tensor
    mask: torch.Tensor
    is_read: torch.Tensor
    """(heard,) bool: not of its answer."""
    log_gate: torch.Tensor | None

    def at(self, i: int, states: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        """What the i-th cut adds to states that end at these bytes."""
        layer = cast(_Attention, self.ears.layers[i])
        apart = ends[:, :, None] - self.ends[:, None]
        scores = layer.known(apart, self.is_read)
        if self.log_gate is not None:
            scores = scores + self.log_gate[:, None, None, None]
        hidden = (apart < 0) | ~self.mask[:, None].bool()
        scores = scores.masked_fill(hidden[:, None], torch.finfo(scores.dtype).min)
        made: torch.Tensor = layer(states, self.projected[i], scores)
        return made

    def then(self, later: Heard) -> _Hearing:
        more = self.ears.read(later)
        projected = tuple(
            (torch.cat([k, more_k], 2), torch.cat([v, more_v], 2))
            for (k, v), (more_k, more_v) in zip(self.projected, more.projected, strict=True)
        )
        return replace(
            self,
            projected=projected,
            ends=torch.cat([self.ends, more.ends], 1),
            mask=torch.cat([self.mask, more.mask], 1),
            is_read=torch.cat([self.is_read, more.is_read]),
        )

    def rows(self, index: torch.Tensor) -> _Hearing:
        return replace(
            self,
            projected=tuple((k[index], v[index]) for k, v in self.projected),
            ends=self.ends[index],
            mask=self.mask[index],
            log_gate=None if self.log_gate is None else self.log_gate[index],
        )


class _GoingOn(Going):
    """Before each step the peers read what was said."""

    def __init__(
        self,
        primary: Member,
        cache: Any,
        asked: Asked,
        hearing: Sequence[_Hearing],
        readers: Sequence[Reader],
    ) -> None:
        super().__init__(primary, cache, asked)
        self._hearing, self._readers = list(hearing), list(readers)
        self._texts = [""] * len(self._said)
        """What each row has said, as far as its characters are whole."""
        self._known: dict[tuple[str, str], list[int]] = {}

    def keep(self, rows: torch.Tensor) -> None:
        super().keep(rows)
        self._hearing = [h.rows(rows) for h in self._hearing]
        self._texts = [self._texts[i] for i in rows.tolist()]
        for reader in self._readers:
            reader.keep(rows)

    def _ids(self, reader: Reader, piece: str) -> list[int]:
        """Pieces repeat, and a tokenizer takes as long as a layer of a small model."""
        key = (reader.peer.name, piece)
        if key not in self._known:
            self._known[key] = reader.peer.tokenizer.tokens_of(piece)[0]
        return self._known[key]

    def _states(self, ids: torch.Tensor) -> torch.Tensor:
        decode = self._primary.tokenizer.decode
        told = [decode(said) for said in self._said]
        ends = [s + len(text.encode()) for s, text in zip(self._starts, told, strict=True)]
        pieces = [new_piece(text, before) for text, before in zip(told, self._texts, strict=True)]
        for i, reader in enumerate(self._readers):
            ids_of = [self._ids(reader, piece) for piece in pieces]
            at = [[end] * len(some) for end, some in zip(ends, ids_of, strict=True)]
            self._hearing[i] = self._hearing[i].then(reader.read_on(ids_of, at))
        self._texts = [before + piece for before, piece in zip(self._texts, pieces, strict=True)]
        with _attending(
            self._primary, self._hearing, torch.tensor(ends, device=ids.device)[:, None]
        ):
            return super()._states(ids)


@contextmanager
def _attending(primary: Member, hearing: Sequence[_Hearing], ends: torch.Tensor) -> Iterator[None]:
    """While it is open, the primary's layers hear the peers."""

    cuts = hearing[0].ears.cuts if hearing else ()

    def at(i: int) -> Any:
        def hear(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            states = args[0]
            made = states
            for one in hearing:
                made = made + one.at(i, states, ends)
            return (made, *args[1:])

        return hear

    layers = primary.model.model.layers
    hooks = [layers[cut].register_forward_pre_hook(at(i)) for i, cut in enumerate(cuts)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
