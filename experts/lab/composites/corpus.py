"""Training text of the members, encoded: half of the answers are learned a token at a time, half of
them at once.

*At once*: behind the prompt stand blanks, and at each of them the member is to say the token of
the answer that belongs there, without having seen the ones before. A member that can do that has
thought its answer when it has read the question: a latent head takes its states there, and nobody
has to wait for it to speak. Blanks to be filled in parallel: Monea et al. 2023 (PaSS), arXiv
2311.13581.
"""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np

from experts.lab.composites.chats import MemberChats
from experts.lab.composites.steps import MemberName
from experts.lab.corpus import Corpus
from experts.lab.tokenizers import END
from experts.latent import BLANK

THOUGHT_TOKENS = 12
"""Tokens that a member thinks at once: the mark after which it speaks, and 11 blanks."""
_AT_ONCE_SHARE = 0.5
_CHUNK = 10_000


def make_member_corpus(tokenizer: Any, member: MemberName, n_chats: int, seed: int) -> Corpus:
    """Draw ``n_chats`` training chats of a member."""
    rng = Random(f"{member}/{seed}")
    chats = MemberChats(member, rng)
    encode = tokenizer.backend_tokenizer.encode_batch_fast
    end = tokenizer.convert_tokens_to_ids(END)
    ids: list[np.ndarray] = []
    said: list[np.ndarray] = []
    blanked: list[np.ndarray] = []
    for start in range(0, n_chats, _CHUNK):
        some = [chats.draw() for _ in range(min(_CHUNK, n_chats - start))]
        encoded = encode([t for c in some for t in (c.prompt, c.answer)], add_special_tokens=False)
        for prompt, answer in zip(encoded[::2], encoded[1::2], strict=True):
            at_once = rng.random() < _AT_ONCE_SHARE
            says = [*answer.ids, end]
            if at_once:
                says = (says + [end] * THOUGHT_TOKENS)[:THOUGHT_TOKENS]
            ids.append(np.asarray([*prompt.ids, *says], np.int32))
            is_said = np.arange(len(ids[-1])) >= len(prompt.ids)
            said.append(is_said)
            blanked.append(is_said & at_once)
    return Corpus(
        ids=np.concatenate(ids),
        starts=np.concatenate([[0], np.cumsum([len(row) for row in ids])]),
        said=np.concatenate(said),
        blanked=np.concatenate(blanked),
        blank_id=tokenizer.convert_tokens_to_ids(BLANK),
    )
