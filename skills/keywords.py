"""Skills by keywords: an LLM is asked several times which skills a question needs.

Symbolic-MoE (arXiv:2503.05641, section 3.1): five passes at temperature 0.7, each a comma-separated
list; keywords that come up more than once are kept, and each is the skill whose descriptor is
nearest. Whom to ask and who pays is the orchestrator's; here are the words, and what they mean.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from skills.annotate import Annotation

N_PASSES = 5
TEMPERATURE = 0.7
MAX_KEYWORD_CHARS = 20
"""Longer ones are sentences, which the paper's code drops as well."""
Embed = Callable[[Sequence[str]], np.ndarray]
"""Texts to unit vectors (n, d)."""
_MOST_REMEMBERED = 20_000
_MAX_READ_CHARS = 2000
_MAX_PER_PASS = 12
"""Of a list that does not end; the prompt asks for five at most."""
_UNIFORM_VOTES = 1.0
"""Votes that are spread over all skills, so that none is ruled out by a few keywords."""
_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?(</\1>|\Z)", re.S | re.I)
_BULLET = re.compile(r"^\s*(?:[-*+•–—]+|\(?\d{1,2}[.):]|\(?[a-e][.)])\s+")
_LEAD_IN = re.compile(r"^[^,;\n]{0,80}?:\s*(?=\S)")
_NUMBERING = re.compile(r"(?:^|(?<=\s))\(?\d{1,2}[.)]\s+")
_SEPARATORS = re.compile(r"[,;\n、|]+|\.\s+")
"""After NFKC, which makes full-width commas and semicolons plain ones."""
_EDGES = " \t\r.!?'\"`*_#[](){}<>«»“”\u2018\u2019:-–—•"
_NOTHING = frozenset({"", "none", "n/a", "na", "nothing", "unknown", "and", "or", "etc"})


def keyword_prompt(question: str) -> str:
    """What a pass asks."""
    return (
        "Which skills or subjects does it take to answer the question between the lines? Name the "
        "2 to 5 that matter most, each in one or two words, separated by commas. Do not answer the "
        f"question, and write nothing but the list.\n-----\n{question}\n-----\nSkills:"
    )


def parse_keywords(text: str) -> tuple[str, ...]:
    """Keywords of one answer, in its order, none twice: lower case, without what surrounds them.

    Answers that are lists of lines, JSON, or have a first sentence, are read as well; what is no
    list of short words gives none.

    >>> parse_keywords("Skills: Algebra, Unit Conversion, and Geometry.")
    ('algebra', 'unit conversion', 'geometry')
    """
    text = unicodedata.normalize("NFKC", _THOUGHT.sub(" ", text[:_MAX_READ_CHARS]))
    listed = _json_list(text)
    parts = _parts(text) if listed is None else listed
    found: dict[str, None] = {}
    for part in parts:
        keyword = " ".join(_BULLET.sub("", part).strip(_EDGES).lower().split())
        keyword = re.sub(r"^(?:and|or|&)\s+", "", keyword).strip(_EDGES)
        is_word = any(c.isalpha() for c in keyword) and keyword.isprintable()
        if is_word and len(keyword) <= MAX_KEYWORD_CHARS and keyword not in _NOTHING:
            found[keyword] = None
    return tuple(found)[:_MAX_PER_PASS]


def _parts(text: str) -> list[str]:
    lines = []
    for line in text.splitlines():
        # "Skills: a, b" and "The skills needed are: a, b": what leads in is no keyword.
        bare = _LEAD_IN.sub("", _BULLET.sub("", line)).strip()
        if bare and not bare.endswith(":"):
            lines.append(bare)
    return _SEPARATORS.split(_NUMBERING.sub("\n", "\n".join(lines)))


def _json_list(text: str) -> list[str] | None:
    """The strings of a JSON list, where the answer holds one."""
    start, end = text.find("["), text.rfind("]")
    if not 0 <= start < end:
        return None
    try:
        values = json.loads(text[start : end + 1])
    except (json.JSONDecodeError, RecursionError):
        return None
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        return None
    return values


def agreed_keywords(passes: Sequence[Sequence[str]], *, n_asked: int) -> dict[str, int]:
    """Keywords that came up in more than one pass, with the number of passes, in the order of their
    first mention; all of them where one pass is all that was asked for.

    A keyword that one pass repeats counts once: it does not agree with itself.
    """
    counts: dict[str, int] = {}
    for keywords in passes:
        for keyword in dict.fromkeys(keywords):
            counts[keyword] = counts.get(keyword, 0) + 1
    least = 1 if n_asked == 1 else 2
    return {keyword: n for keyword, n in counts.items() if n >= least}


class KeywordAnnotator:
    """Each keyword votes, once for every pass that named it, for the skill whose descriptor is
    nearest. An ``Annotator`` of keywords, not of embeddings of questions."""

    kind: ClassVar[str] = "keywords"

    def __init__(self, skills: Sequence[str], descriptors: np.ndarray, embed: Embed) -> None:
        """descriptors: (n_skills, d), unit rows of the space of ``embed``."""
        self.skills, self.descriptors = tuple(skills), descriptors
        self._embed = embed
        self._nearest: dict[str, tuple[int, float]] = {}
        """Of keywords so far, the nearest skill and its cosine: LLMs repeat themselves."""

    def annotate(self, keywords: Sequence[Mapping[str, int]]) -> Annotation:
        """keywords: per question, as ``agreed_keywords`` gives them.

        Novelty is 1 - the largest cosine of a keyword to a descriptor. A question without keywords
        may need anything (all skills alike), and its novelty is 2, the most there is.
        """
        self._look_up(list(dict.fromkeys(k for counts in keywords for k in counts)))
        n_skills = len(self.skills)
        p_skill = np.full((len(keywords), n_skills), _UNIFORM_VOTES / n_skills)
        novelty = np.full(len(keywords), 2.0)
        for i, counts in enumerate(keywords):
            for keyword, n in counts.items():
                nearest, cosine = self._nearest[keyword]
                p_skill[i, nearest] += n
                novelty[i] = min(novelty[i], 1 - cosine)
        return Annotation(p_skill=p_skill / p_skill.sum(axis=1, keepdims=True), novelty=novelty)

    def _look_up(self, keywords: Sequence[str]) -> None:
        new = [k for k in keywords if k not in self._nearest]
        if not new:
            return
        if len(self._nearest) > _MOST_REMEMBERED:
            self._nearest = {k: v for k, v in self._nearest.items() if k in set(keywords)}
        similarity = self._embed(new) @ self.descriptors.T
        for keyword, row in zip(new, similarity, strict=True):
            self._nearest[keyword] = int(row.argmax()), float(row.max())
