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

from experts.latent.net.asked import Asked, n_bytes_known, new_piece
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
_ANSWER, _READ, _NOTHING, _UNSEEN = 0, _N_DISTANCES, 2 * _N_DISTANCES, 2 * _N_DISTANCES + 1
"""Where the scores of ``_Attention.known`` begin."""
_NEVER = 1 << 40
_PARTS = ("weight", "bias")


class Interaction(Form):
    """Layers for each link: adapters of what the peer thinks, and attention at each cut."""

    reads_along = True

    def __init__(
        self,
        links: Sequence[Link],
        widths: Mapping[str, int],
        *,
        depths: Mapping[str, int],
        n_stacks: int = 2,
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
            made = made + one.at(0, states, one.seen_from(asked.ends))
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
            ears = _Ears.of(self.cuts[primary.name], adapters, layers)
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
    """A net of one hidden layer; ``out`` is applied together with what comes behind it."""

    def __init__(self, width: int, wide: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.into = nn.Linear(width, wide)
        self.out = nn.Linear(wide, inner)

    def forward(self, states: torch.Tensor, behind: _Linear) -> torch.Tensor:
        made: torch.Tensor = nn.functional.gelu(self.into(self.norm(states)))
        return nn.functional.linear(made, behind.weight, behind.bias)


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

    def forward(
        self, states: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, known: torch.Tensor
    ) -> torch.Tensor:
        """What is added to ``states``, (n, length, width). keys, values: (n, n_heads, heard, inner
        / n_heads). known: what is known of each pair of places beforehand, (n, n_heads, length,
        heard)."""
        query = self.query(self.norm(states))
        query = query.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
        heard = nn.functional.scaled_dot_product_attention(query, keys, values, attn_mask=known)
        made: torch.Tensor = self.out(heard.transpose(1, 2).flatten(2))
        return made

    def known(self) -> torch.Tensor:
        """Scores before anything is compared, (n_heads, places): by distance of the answer, by
        distance of what was read, of nothing, of what is not seen."""
        read = self.near + self.read[:, None]
        nothing = self.near.new_zeros(self.n_heads, 1)
        unseen = torch.full_like(nothing, torch.finfo(nothing.dtype).min)
        return torch.cat([self.near, read, nothing, unseen], 1)


@dataclass(frozen=True)
class _Linear:
    weight: torch.Tensor
    bias: torch.Tensor

    def behind(self, first: nn.Linear) -> _Linear:
        """Both as one: at each token it is calls that cost, not numbers."""
        return _Linear(self.weight @ first.weight, self.weight @ first.bias + self.bias)


@dataclass(frozen=True)
class _Ears:
    """The layers by which a primary hears one peer."""

    cuts: tuple[int, ...]
    adapters: _Adapters
    layers: nn.ModuleList
    of_answer: _Linear
    """What makes keys and values of an adapter's inner layer, for all layers at once: (2 * layers *
    inner, wide)."""
    of_read: _Linear
    known: tuple[torch.Tensor, ...]
    """Of each layer."""

    @classmethod
    def of(cls, cuts: tuple[int, ...], adapters: _Adapters, layers: nn.ModuleList) -> _Ears:
        each = [m for layer in layers for m in (layer.key, layer.value)]
        linear = _Linear(*(torch.cat([getattr(m, name) for m in each]) for name in _PARTS))
        answer, read = adapters.answer.out, adapters.read.out
        known = tuple(cast(_Attention, layer).known() for layer in layers)
        return cls(cuts, adapters, layers, linear.behind(answer), linear.behind(read), known)

    def hear(self, thought: Thought, log_gate: torch.Tensor | None) -> _Hearing:
        made = self.adapters.answer(thought.answer.states, self.of_answer)
        # Attending to nothing is a choice like others: a key and a value of zeros.
        made = nn.functional.pad(made, (0, 0, 1, 0))
        ends, mask = (
            nn.functional.pad(x, (1, 0)) for x in (thought.answer.ends, thought.answer.mask)
        )
        heard = self._hearing(made, ends, mask, _ANSWER, log_gate)
        for read in (thought.prompt, thought.along):
            if read is not None:
                heard = heard.then(read)
        return heard

    def read(self, heard: Heard) -> _Hearing:
        made = self.adapters.read(heard.states, self.of_read)
        return self._hearing(made, heard.ends, heard.mask, _READ, None)

    def _hearing(
        self,
        made: torch.Tensor,
        ends: torch.Tensor,
        mask: torch.Tensor,
        first: int,
        log_gate: torch.Tensor | None,
    ) -> _Hearing:
        n_heads = cast(_Attention, self.layers[0]).n_heads
        by_head = made.reshape(*made.shape[:2], 2 * len(self.layers), n_heads, -1)
        ends = ends.masked_fill(mask == 0, _NEVER)
        kind = torch.full(ends.shape[1:], first, device=ends.device)
        return _Hearing(self, by_head.permute(2, 0, 3, 1, 4), ends, kind, log_gate)


@dataclass(frozen=True)
class _Hearing:
    """What one peer has to say to a batch, as each of the layers hears it."""

    ears: _Ears
    projected: torch.Tensor
    """Keys and values of each cut, (2 * cuts, n, n_heads, heard, inner / n_heads): one tensor to
    append to, of which each attention takes whole blocks."""
    ends: torch.Tensor
    """(n, heard) int64; of padding, later than all that is ever said."""
    first: torch.Tensor
    """(heard,) int64: where the scores of each kind begin. The first place is nothing."""
    log_gate: torch.Tensor | None

    def seen_from(self, ends: torch.Tensor) -> torch.Tensor:
        """By states that end at these bytes, (n, length): which score each pair of places has, (n,
        length, heard) int64."""
        apart = ends[:, :, None] - self.ends[:, None]
        known = torch.where(apart < 0, _UNSEEN, apart.clamp(max=_N_DISTANCES - 1) + self.first)
        known[..., 0] = _NOTHING
        return known

    def at(self, i: int, states: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """What the i-th cut adds to states."""
        layer = cast(_Attention, self.ears.layers[i])
        known = self.ears.known[i][:, seen].transpose(0, 1)
        if self.log_gate is not None:
            # Nothing is not gated: a softmax does not feel what all scores gain.
            gates = self.log_gate[:, None, None, None].expand(*known.shape[:3], seen.shape[2] - 1)
            known = known + nn.functional.pad(gates, (1, 0))
        made: torch.Tensor = layer(states, self.projected[2 * i], self.projected[2 * i + 1], known)
        return made

    def then(self, later: Heard) -> _Hearing:
        more = self.ears.read(later)
        return replace(
            self,
            projected=torch.cat([self.projected, more.projected], 3),
            ends=torch.cat([self.ends, more.ends], 1),
            first=torch.cat([self.first, more.first]),
        )

    def rows(self, index: torch.Tensor) -> _Hearing:
        return replace(
            self,
            projected=self.projected[:, index],
            ends=self.ends[index],
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
        self._starts = asked.ends[:, -1].tolist()
        self._texts = [""] * len(self._said)
        """What each row has said, as far as its characters are whole."""
        self._known: dict[tuple[str, str], list[int]] = {}

    def keep(self, rows: torch.Tensor) -> None:
        super().keep(rows)
        self._hearing = [h.rows(rows) for h in self._hearing]
        self._starts = [self._starts[i] for i in rows.tolist()]
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
        ends = [s + n_bytes_known(text) for s, text in zip(self._starts, told, strict=True)]
        pieces = [new_piece(text, before) for text, before in zip(told, self._texts, strict=True)]
        for i, reader in enumerate(self._readers):
            ids_of = reader.fitting([self._ids(reader, piece) for piece in pieces])
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
    seen = [one.seen_from(ends) for one in hearing]

    def at(i: int) -> Any:
        def hear(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            states = args[0]
            made = states
            for one, what in zip(hearing, seen, strict=True):
                made = made + one.at(i, states, what)
            return (made, *args[1:])

        return hear

    layers = primary.model.model.layers
    hooks = [layers[cut].register_forward_pre_hook(at(i)) for i, cut in enumerate(cuts)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
