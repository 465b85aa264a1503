"""The tokenizers of the bundled experts, built from the questions themselves.

*bytes*: one token a byte; an expert that rewrites any word must see its letters.
*words*: the words of the questions' wordings are one token each, everything else is spelled in
bytes, digits one by one. *letters*: the same, but words that lists are made of are spelled, too.
*calls*: for the tool caller; words of tools and of questions for them are whole, what a call copies
is spelled, and JSON's marks between two values are one token. *told_words*, *told_bytes*: those of
the experts that solve composites together; the words of composites are whole, and there is a blank.
All but those of bytes alone are byte-level BPEs without merges whose vocabulary holds whole words
(``ignore_merges``), which transformers and vLLM both load as ordinary fast tokenizers.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from random import Random
from typing import Literal

from experts.lab.calls.chat import CALL_SPECIALS, CALL_TEMPLATE, JSON_MARKS
from experts.lab.calls.vocabulary import call_words
from experts.lab.composites.vocabulary import composite_words
from experts.lab.questions import SKILLS, draw_question
from experts.lab.questions.vocabulary import closed_words
from experts.lab.questions.words import word_list
from experts.latent import BLANK

TokenizerKind = Literal["words", "letters", "bytes", "calls", "told_words", "told_bytes"]

PAD, END, SYSTEM, USER, ASSISTANT = SPECIALS = (
    "<|pad|>",
    "<|end|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CONTEXT_TOKENS = 256
_SPLIT = r" ?[A-Za-z]+|[0-9]|[^A-Za-z0-9]"
_MIN_COUNT = 8
_SAMPLE = 40_000


def chat_text(turns: list[tuple[str, str]]) -> str:
    """The chat template in plain Python, ready for the assistant to speak.

    Training renders millions of prompts; a test holds it equal to the Jinja template.
    """
    said = "".join(f"<|{role}|>{content}{END}" for role, content in turns)
    return f"{said}{ASSISTANT}"


def whole_words(*, spell_list_words: bool, seed: int = 0) -> list[str]:
    """Pre-tokens (with their leading space, if any) that are kept whole."""
    allowed = closed_words() - set(word_list() if spell_list_words else ())
    allowed |= {w.capitalize() for w in allowed} | {w.lower() for w in allowed}
    counts: Counter[str] = Counter()
    for skill in SKILLS:
        rng = Random(f"{seed}/{skill.name}")  # of its own: a new skill changes no other's words
        for _ in range(_SAMPLE // len(SKILLS)):
            question = draw_question(skill, rng, "train")
            for text in (question.text, question.answer):
                counts.update(t for t in re.findall(_SPLIT, text) if t.strip() in allowed)
    kept = [t for t, n in counts.items() if n >= _MIN_COUNT and len(t) > 1]
    # A word seen after a space is also met at the start of a text, and the other way round.
    lowered = {t.lower() for t in kept}
    return sorted({*kept, *lowered})


def save_tokenizer(
    kind: TokenizerKind, folder: Path, *, context_tokens: int = CONTEXT_TOKENS
) -> None:
    """Write tokenizer.json and tokenizer_config.json (with the chat template) into ``folder``."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials, pieces = list(SPECIALS), _SPLIT
    if kind == "calls":
        whole = [*JSON_MARKS, *call_words()]
        specials += CALL_SPECIALS
        marks = sorted(JSON_MARKS, key=len, reverse=True)
        pieces = "|".join((*map(re.escape, marks), _SPLIT))
    elif kind in ("bytes", "told_bytes"):
        whole = []
    elif kind == "told_words":
        whole = composite_words()
    else:
        whole = whole_words(spell_list_words=kind == "letters")
    if kind in ("told_words", "told_bytes"):
        specials.append(BLANK)
    words = [t.replace(" ", "Ġ") for t in whole]
    tokens = [*specials, *alphabet, *(w for w in words if w not in set(alphabet))]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Split(Regex(pieces), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(specials)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=specials[2:],
        model_max_length=context_tokens,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CALL_TEMPLATE if kind == "calls" else CHAT_TEMPLATE
    fast.save_pretrained(folder)
