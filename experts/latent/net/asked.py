"""A batch of questions as the primary reads them: prompt, slots for its peers, and what follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from experts.latent.net.member import Embedded
from experts.latent.net.padding import left_padded, positions_of
from experts.latent.net.prompts import Prompt

_HALF = "\ufffd"
"""What a part of a character is shown as."""


@dataclass(frozen=True)
class Asked:
    """Prompts are padded on the left and answers on the right, so that slots stand in the same
    places of every row."""

    ids: torch.Tensor
    """(n, length) int64; slots hold the primary's slot token."""
    mask: torch.Tensor
    """(n, length) int64."""
    ends_of_rows: Callable[[], list[list[int]]]
    """What ``ends`` is made of: only a form that reads along asks, and it takes a while."""
    slots: torch.Tensor
    """(n, n_peers, n_used) int64: places of the slots in the row; as many as the longest answer of
    the batch needs, those of shorter ones masked."""
    n_tail: int
    """Places behind the slots: template marks, and an answer where there is one."""

    @cached_property
    def ends(self) -> torch.Tensor:
        """(n, length) int64: where each token ends in the shared text. Slots lie behind the
        question, a byte each, all peers' side by side; what follows lies behind the slots."""
        return left_padded(self.ends_of_rows(), 0)[0].to(self.ids.device)

    @property
    def positions(self) -> torch.Tensor:
        return positions_of(self.mask)

    @property
    def n_used(self) -> int:
        """Slots of each peer."""
        return self.slots.shape[2]

    @property
    def slots_mask(self) -> torch.Tensor:
        """(n, n_peers * n_used) int64: of the slots, in the order of their places."""
        return self.mask.gather(1, self.slots.flatten(1))

    def told(self, ids: torch.Tensor) -> Asked:
        """The same with the slots filled with tokens, (n, n_peers, n_used or more): as if it were
        said."""
        said = ids[:, :, : self.n_used].flatten(1).to(self.ids)
        return replace(self, ids=self.ids.scatter(1, self.slots.flatten(1), said))


def ask(
    primary: Embedded,
    prompts: Sequence[Prompt],
    used: Sequence[torch.Tensor],
    *,
    answers: Sequence[Sequence[int]] | None = None,
) -> Asked:
    """used: of each peer, which of its slots it fills, (n, n_slots). answers: token ids that the
    primary is to say, with its end token, for training."""
    said = answers or [()] * len(prompts)
    n_peers = len(used)
    n_slots = used[0].shape[1] if used else 0
    n_used = max((int(mask.sum(1).max()) for mask in used), default=0)
    between = [primary.slot_id] * (n_peers * n_used)
    heads, mask = left_padded([[*p.before, *between] for p in prompts], primary.slot_id)
    start = heads.shape[1] - len(between)
    for i, one in enumerate(used):
        mask[:, start + i * n_used : start + (i + 1) * n_used] = one[:, :n_used]
    tails = [[*p.after, *answer] for p, answer in zip(prompts, said, strict=True)]
    n_tail = max(map(len, tails))
    padded = [tail + [primary.slot_id] * (n_tail - len(tail)) for tail in tails]
    is_said = [[1] * len(tail) + [0] * (n_tail - len(tail)) for tail in tails]
    places = torch.arange(start, heads.shape[1]).view(1, n_peers, n_used)

    def ends() -> list[list[int]]:
        return [
            _ends(primary, prompt, n_peers, n_slots, n_used, answer, n_tail)
            for prompt, answer in zip(prompts, said, strict=True)
        ]

    device = primary.device
    return Asked(
        ids=torch.cat([heads, torch.tensor(padded)], 1).to(device),
        mask=torch.cat([mask, torch.tensor(is_said)], 1).to(device),
        ends_of_rows=ends,
        slots=places.expand(len(prompts), -1, -1).to(device),
        n_tail=n_tail,
    )


def words_in_slots(
    primary: Embedded, words: Sequence[str], n_slots: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Words as a primary's tokens in its slots, and which slots they fill, (n, n_slots) int64 each;
    slot tokens behind what is shorter. The first slot is filled by what says nothing, too."""
    ids, mask = [], []
    plain = [f" {primary.tokenizer.without_marks(text)}" for text in words]
    for found in primary.tokenizer.ids_of_all(plain):
        n_used = min(max(1, len(found)), n_slots)
        ids.append((found + [primary.slot_id] * n_slots)[:n_slots])
        mask.append([1] * n_used + [0] * (n_slots - n_used))
    return torch.tensor(ids).view(-1, n_slots), torch.tensor(mask).view(-1, n_slots)


def _ends(
    primary: Embedded,
    prompt: Prompt,
    n_peers: int,
    n_slots: int,
    n_used: int,
    answer: Sequence[int],
    n_tail: int,
) -> list[int]:
    """Slots take ``n_slots`` bytes however many are used: no row's text depends on its batch."""
    at = prompt.n_bytes
    ends = [*prompt.hears_before]
    ends += [at + 1 + i for _ in range(n_peers) for i in range(n_used)]
    at += n_slots
    ends += [at] * len(prompt.after)
    for n_bytes in bytes_said(primary, answer):
        ends.append(at + n_bytes)
    return [*ends, *([ends[-1]] * (n_tail - len(prompt.after) - len(answer)))]


def bytes_said(primary: Embedded, answer: Sequence[int]) -> list[int]:
    """Bytes of the answer's text up to and with each token, as far as its characters are whole."""
    texts = [primary.tokenizer.decode(answer[: i + 1]) for i in range(len(answer))]
    return [n_bytes_known(text) for text in texts]


def n_bytes_known(text: str) -> int:
    """Without the half of a character that it may end with."""
    return len(text.rstrip(_HALF).encode())


def pieces_of(
    primary: Embedded, peer: Embedded, answer: Sequence[int], at: int
) -> tuple[list[int], list[int]]:
    """An answer as a peer reads it along: its own tokens of each piece that the primary says, and
    where they end when the answer begins at byte ``at``. Piece by piece, because a peer must not
    know how a word goes on when the primary has said half of it."""
    ids: list[int] = []
    ends: list[int] = []
    before = ""
    for i in range(len(answer)):
        text = primary.tokenizer.decode(answer[: i + 1])
        said = new_piece(text, before)
        piece, _ = peer.tokenizer.tokens_of(said)
        ids += piece
        ends += [at + len(text.encode())] * len(piece)
        before += said
    return ids, ends


def new_piece(text: str, before: str) -> str:
    """What a text has that it had not before; nothing while a character is half said, or when a
    mark was said that is no text."""
    return "" if text.endswith(_HALF) else text[len(before) :]
