"""Splits of questions that come without one: train, val or test, by what the question says.

Sources that bring a split of their own keep it (``eval/outcomes/matrix.py``); the splits of
generated questions are made with the questions (``experts/lab``).
"""

from __future__ import annotations

import hashlib
from typing import Literal

Split = Literal["train", "val", "test"]

TRAIN_PERCENT, VAL_PERCENT = 60, 15


def split_of(prompt: str) -> Split:
    """The split of a prompt: train 60 %, val 15 %, test 25 %, by a hash.

    Letter case and spacing do not count, so that one question in two files, or twice in one, is
    never trained on and tested on. The same on every machine and for ever:

    >>> split_of("What is 2 + 2?"), split_of("  what is\\n2 + 2? ")
    ('train', 'train')
    """
    # Half an emoji, as models write them, is no valid UTF-8; it still has to have a split.
    digest = hashlib.sha256(normalised(prompt).encode("utf-8", "surrogatepass")).digest()
    percent = int.from_bytes(digest[:4], "big") % 100
    if percent < TRAIN_PERCENT:
        return "train"
    return "val" if percent < TRAIN_PERCENT + VAL_PERCENT else "test"


def normalised(prompt: str) -> str:
    """What makes two prompts one question: the text without letter case and spacing."""
    # Changing anything here moves questions from test to train; a test pins it.
    return " ".join(prompt.lower().split())
