"""Training text for the bundled experts: chats of questions, encoded, batched by length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np

from experts.lab.calls.chat import pieces_of
from experts.lab.calls.offers import draw_chat
from experts.lab.questions import LabSkill, draw_question
from experts.lab.questions.grammar import Noise
from experts.lab.tokenizers import END, chat_text

NOISE = Noise(typo=0.08, strange_word=0.15, lower_case=0.12, no_punctuation=0.12)
CALL_NOISE = replace(NOISE, lower_case=0.0)
"""A call copies from the question, so what it copies must be there as it is."""
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are an expert. Answer with the result only.",
    "Answer the question.",
    "Be brief.",
    "You answer short questions exactly.",
)
_SYSTEM_SHARE = 0.05
_HISTORY_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Encoded chats as flat arrays: chat i is ``ids[starts[i] : starts[i + 1]]``."""

    ids: np.ndarray
    """(n_tokens,) int32."""
    starts: np.ndarray
    """(n_chats + 1,) int64."""
    said: np.ndarray
    """(n_tokens,) bool: tokens that the assistant is to say, end tokens included."""
    blanked: np.ndarray | None = None
    """(n_tokens,) bool: tokens that are said without those before them being seen: the model reads
    ``blank_id`` in their places. None where nothing is."""
    blank_id: int = 0

    def __len__(self) -> int:
        return len(self.starts) - 1


def make_corpus(
    tokenizer: Any, skills: Sequence[tuple[LabSkill, float]], n_chats: int, seed: int
) -> Corpus:
    """Draw ``n_chats`` training chats; skills come with their relative shares."""
    rng = Random(seed)
    names, weights = [s for s, _ in skills], [w for _, w in skills]
    chats = []
    for skill in rng.choices(names, weights, k=n_chats):
        question = draw_question(skill, rng, "train", noise=NOISE)
        turns = [("user", question.text)]
        dice = rng.random()
        if dice < _SYSTEM_SHARE:
            turns.insert(0, ("system", rng.choice(SYSTEM_PROMPTS)))
        elif dice < _SYSTEM_SHARE + _HISTORY_SHARE:
            earlier = draw_question(rng.choice(names), rng, "train")
            turns = [("user", earlier.text), ("assistant", earlier.worked), *turns]
        chats.append(((chat_text(turns), False), (question.worked + END, True)))
    return _encode(tokenizer, chats)


def make_call_corpus(tokenizer: Any, n_chats: int, seed: int) -> Corpus:
    """Draw ``n_chats`` chats of questions that call tools."""
    rng = Random(seed)
    chats = [
        draw_chat(rng, "train", n_turns=rng.randint(3, 7), noise=CALL_NOISE) for _ in range(n_chats)
    ]
    return _encode(tokenizer, [tuple(pieces_of(chat)) for chat in chats])


def _encode(tokenizer: Any, chats: Sequence[Sequence[tuple[str, bool]]]) -> Corpus:
    """Chats as pieces of text, each with whether the assistant is to say it."""
    encode = tokenizer.backend_tokenizer.encode_batch_fast
    ids: list[np.ndarray] = []
    said: list[np.ndarray] = []
    lengths: list[int] = []
    for i in range(0, len(chats), 10_000):
        some = chats[i : i + 10_000]
        encoded = iter(encode([t for chat in some for t, _ in chat], add_special_tokens=False))
        for chat in some:
            parts = [np.asarray(next(encoded).ids, np.int32) for _ in chat]
            ids += parts
            said += [np.full(len(part), s) for part, (_, s) in zip(parts, chat, strict=True)]
            lengths.append(sum(map(len, parts)))
    return Corpus(
        ids=np.concatenate(ids),
        starts=np.concatenate([[0], np.cumsum(lengths)]),
        said=np.concatenate(said),
    )


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Right-padded chats of similar length."""

    ids: np.ndarray
    """(n_chats, length) int64: what is to be predicted."""
    read: np.ndarray
    """(n_chats, length) int64: what the model reads; ``ids``, or blanks in their places."""
    counted: np.ndarray
    """(n_chats, length) bool: predicting the token at that place counts in the loss."""


def batches(
    corpus: Corpus, *, batch_tokens: int, prompt_share: float, pad_id: int, seed: int
) -> Iterator[Batch]:
    """One pass over the corpus in random order, similar lengths together, about
    ``batch_tokens`` tokens a batch, padding included.

    A random ``prompt_share`` of the prompts' tokens is learned like the answers'. The experts so
    become models of their questions too, and the output layer is computed for few tokens.
    """
    rng = np.random.default_rng(seed)
    lengths = np.diff(corpus.starts)
    # Noise in the sort key keeps neighbours in length from meeting in the same batch every pass.
    order = np.argsort(lengths + rng.uniform(-2, 2, len(lengths)), kind="stable")
    groups: list[np.ndarray] = []
    start = 0
    for end in range(1, len(order) + 1):
        longest = lengths[order[end - 1]] + 4  # the noise lets a longer one stand up to 4 earlier
        if (end - start) * longest >= batch_tokens or end == len(order):
            groups.append(order[start:end])
            start = end
    for g in rng.permutation(len(groups)):
        yield _padded(corpus, groups[g], prompt_share, pad_id, rng)


def _padded(
    corpus: Corpus, rows: np.ndarray, prompt_share: float, pad_id: int, rng: np.random.Generator
) -> Batch:
    lengths = np.diff(corpus.starts)[rows]
    ids = np.full((len(rows), lengths.max()), pad_id, np.int64)
    read = ids.copy()
    counted = np.asarray(rng.random(ids.shape) < prompt_share)
    counted[:, 0] = False
    for i, (row, n) in enumerate(zip(rows, lengths, strict=True)):
        chat = slice(corpus.starts[row], corpus.starts[row + 1])
        ids[i, :n] = corpus.ids[chat]
        read[i, :n] = corpus.ids[chat]
        if corpus.blanked is not None:
            read[i, :n][corpus.blanked[chat]] = corpus.blank_id
        counted[i, :n] |= corpus.said[chat]
        counted[i, n:] = False
    return Batch(ids=ids, read=read, counted=counted)
