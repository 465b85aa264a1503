"""What a right option looks like, before anyone was asked: listed options judged by their form.

Exam questions list their options, and the right one is often told apart by its form alone: its
length and precision beside the others', where its number stands among theirs, what it shares with
the question. The model of choice learns how much of that there is in the owner's questions (a style
of a data set, not knowledge: it is worth nothing on questions of another style, and learns so). An
answer model weighs it with what the experts say.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import takewhile
from string import ascii_uppercase
from typing import Self

import numpy as np

from experts.errors import NotFitted
from routers.choice import ChoiceModel, Options

# No \s at the front: over many blank lines it would look at every one from each of them.
_LISTED = re.compile(r"^[^\S\n]*\(?([A-Z])[.):]\s", re.M)
_NUMBER = re.compile(r"-?\d[\d,]*\.?\d*")
MIN_QUESTIONS = 100
"""Fewer questions with options than this teach nothing of forms."""
_MAX_CHARS = 400
_LARGEST_VALUE = 1e15
"""Larger numbers count as this: a few hundred digits are infinite as a float."""


def listed_options(question: str) -> tuple[str, list[str]]:
    """The stem, and the options that a question lists last under A, B, C, ...; none for others.

    >>> listed_options("Which is a metal?\\nA. iron\\nB. salt")
    ('Which is a metal?\\n', ['iron', 'salt'])
    """
    found = list(_LISTED.finditer(question))
    starts = [i for i, match in enumerate(found) if match[1] == "A"]
    if not starts:
        return question, []
    # Up to the first gap: after it, an option's place would not be its letter's.
    lettered = zip(found[starts[-1] :], ascii_uppercase, strict=False)
    run = [m for m, _ in takewhile(lambda pair: pair[0][1] == pair[1], lettered)]
    if len(run) < 2:
        return question, []
    ends = [m.start() for m in run[1:]] + [len(question)]
    options = [question[m.end() : end].strip() for m, end in zip(run, ends, strict=True)]
    return question[: run[0].start()], options


def form_features(stem: str, options: Sequence[str]) -> np.ndarray:
    """(n_options, 22): each option by itself and beside the others."""
    texts = [o[:_MAX_CHARS] for o in options]
    n = len(texts)
    length = np.array([len(t) for t in texts], float)
    log_length = np.log1p(length)
    values = np.array([_value(t) for t in texts])
    stem_words = set(_words(stem[-2000:]))
    words = [set(_words(t)) for t in texts]
    common = Counter(w for some in words for w in some)
    magnitude = np.log1p(np.abs(values))
    numeric = ~np.isnan(values)
    mean_magnitude = magnitude[numeric].mean() if numeric.any() else 0.0
    rank_value = np.where(numeric, _rank(np.nan_to_num(values)), 0.5)
    last, first = Counter(t[-1:] for t in texts), Counter(t[:3] for t in texts)
    digits = np.array([sum(c.isdigit() for c in t) for t in texts], float)
    place = np.arange(n) / max(1, n - 1)
    columns = [
        place, place == 0, place == 1, np.full(n, 1 / n), log_length,
        log_length - log_length.mean(), _rank(length),
        [len(w & stem_words) / max(1, len(w)) for w in words],
        [np.mean([common[x] for x in w]) / n if w else 0.0 for w in words],
        numeric, np.where(numeric, np.nan_to_num(magnitude), 0.0), rank_value,
        np.abs(rank_value - 0.5),
        np.where(numeric, np.nan_to_num(magnitude) - mean_magnitude, 0.0),
        [bool(re.search(r"\b(?:all|none|both) of\b|\bcannot\b", t.lower())) for t in texts],
        [t.endswith(".") for t in texts], [t[:1].isupper() for t in texts],
        np.log1p(digits), np.log1p(digits) - np.log1p(digits).mean(),
        [len(t.rpartition(".")[2]) if "." in t else 0 for t in texts],
        [last[t[-1:]] / n for t in texts], [first[t[:3]] / n for t in texts],
    ]  # fmt: skip
    return np.column_stack([np.asarray(c, float) for c in columns])


N_FORMS = 22


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _value(text: str) -> float:
    match = _NUMBER.search(text)
    if not match:
        return np.nan
    return float(np.clip(float(match[0].replace(",", "")), -_LARGEST_VALUE, _LARGEST_VALUE))


def _rank(values: np.ndarray) -> np.ndarray:
    """In [0, 1]; equal values share the mean of their ranks."""
    less = (values[None, :] < values[:, None]).sum(axis=1)
    equal = (values[None, :] == values[:, None]).sum(axis=1) - 1
    result: np.ndarray = (less + equal / 2) / max(1, len(values) - 1)
    return result


class OptionPrior:
    """P(option is right) from forms alone, as log-odds against chance."""

    def fit(self, questions: Sequence[str], right: Sequence[str | None]) -> Self:
        """right: the letter of the right option, None where unknown. With fewer than
        ``MIN_QUESTIONS`` of them every option is worth 0."""
        forms = [_forms(q) if r else None for q, r in zip(questions, right, strict=True)]
        known = [
            (f, ord(r) - ord("A"))
            for f, r in zip(forms, right, strict=True)
            if f is not None and r and 0 <= ord(r) - ord("A") < len(f)
        ]
        self.model_: ChoiceModel | None = None
        if len(known) >= MIN_QUESTIONS:
            marks = np.concatenate([np.arange(len(f)) == r for f, r in known])
            self.model_ = ChoiceModel(n_members=1, n_epochs=20, penalty=0.1).fit(
                _grouped([f for f, _ in known]), marks
            )
        return self

    def log_odds(self, questions: Sequence[str]) -> list[np.ndarray]:
        """Per question, (n_options,) log of P over chance; empty where none are listed.

        Raises NotFitted before ``fit``.
        """
        if not hasattr(self, "model_"):
            raise NotFitted("OptionPrior.log_odds was called before fit.")
        forms = [_forms(q) for q in questions]
        told = [f for f in forms if f is not None]
        if self.model_ is None or not told:
            return [np.zeros(0 if f is None else len(f)) for f in forms]
        p, p_none = self.model_.predict(grouped := _grouped(told))
        p /= np.maximum(1 - p_none, 1e-6)[grouped.group]
        ends = np.cumsum([len(f) for f in told])
        parts = iter(np.split(np.log(np.maximum(p, 1e-6)), ends[:-1]))
        return [np.zeros(0) if f is None else next(parts) + np.log(len(f)) for f in forms]

    def state(self) -> dict[str, np.ndarray]:
        return self.model_.state() if self.model_ else {}

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        prior = cls()
        prior.model_ = ChoiceModel.from_state(state) if state else None
        return prior


def _forms(question: str) -> np.ndarray | None:
    stem, options = listed_options(question)
    return form_features(stem, options) if options else None


def _grouped(forms: Sequence[np.ndarray]) -> Options:
    return Options(
        group=np.repeat(np.arange(len(forms)), [len(f) for f in forms]),
        features=np.concatenate(forms),
        context=np.array([[len(f)] for f in forms], float),
    )
