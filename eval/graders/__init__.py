"""Graders: is an answer right? The score is in [0, 1].

``text`` compares two texts and ``code`` runs tests: functions of answer and reference, and
``grader(name)`` is their door. ``judge`` and ``checklist`` ask a model: generators that yield calls
and return a judgement (``judging``), and ``judge_grader(name)`` is theirs. A name may carry
settings, ``numeric(tolerance=0.01)``, which are the grader's keyword-only parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial

from eval.graders.checklist import checklist as checklist_grader
from eval.graders.code import check_tests
from eval.graders.code import code as code_grader
from eval.graders.judge import judge_pairwise, judge_pointwise
from eval.graders.judging import Case, JudgeGrader, Judgement, Judging, as_steps, run_judgings
from eval.graders.settings import read_settings, split_name
from eval.graders.text import choice, exact, exact_case, json_fields, numeric, regex
from experts.errors import ConfigError, UnknownName
from experts.values import Arm

__all__ = [
    "GRADERS",
    "JUDGE_GRADERS",
    "Case",
    "Grader",
    "JudgeGrader",
    "Judgement",
    "Judging",
    "as_steps",
    "check_reference",
    "choice",
    "exact",
    "exact_case",
    "grader",
    "json_fields",
    "judge_grader",
    "needs_judge",
    "numeric",
    "regex",
    "run_judgings",
]

Grader = Callable[[str, str], float]

GRADERS: Mapping[str, Grader] = {
    "exact": exact,
    "exact_case": exact_case,
    "choice": choice,
    "numeric": numeric,
    "regex": regex,
    "json_fields": json_fields,
    "code": code_grader,
}
"""Those that need no model."""

JUDGE_GRADERS: Mapping[str, JudgeGrader] = {
    "judge_pairwise": judge_pairwise,
    "judge_pointwise": judge_pointwise,
    "checklist": checklist_grader,
}


@lru_cache(maxsize=256)  # a data set asks for the same few names thousands of times
def grader(name: str) -> Grader:
    """A grader that needs no model, with the settings in its name.

    Raises UnknownName with the nearest names, also for a setting; ConfigError for a setting's
    value, and for a grader that needs a model.

    >>> grader("numeric(tolerance=0.1)")("21", "20")
    1.0
    """
    bare, settings = _known(name)
    if bare in JUDGE_GRADERS:
        raise ConfigError(
            f"Grader {bare!r} asks a model: an answer and its reference are not enough. Give "
            f"it a judge with judge_grader({name!r}), or use one of {', '.join(sorted(GRADERS))}."
        )
    chosen = GRADERS[bare]
    return partial(chosen, **read_settings(bare, chosen, settings)) if settings else chosen


@lru_cache(maxsize=256)
def judge_grader(name: str) -> JudgeGrader:
    """A grader that asks a model, with the settings in its name; raises as ``grader`` does."""
    bare, settings = _known(name)
    if bare in GRADERS:
        raise ConfigError(
            f"Grader {bare!r} asks no model. Use grader({name!r}), or one of "
            f"{', '.join(sorted(JUDGE_GRADERS))}."
        )
    chosen = JUDGE_GRADERS[bare]
    return partial(chosen, **read_settings(bare, chosen, settings)) if settings else chosen


def needs_judge(name: str) -> bool:
    """Whether ``judge_grader`` is the door for this name, and not ``grader``."""
    return _known(name)[0] in JUDGE_GRADERS


def check_reference(name: str, reference: str) -> None:
    """Raises DataError for a reference that the grader cannot use, before anything is paid for.

    Tests for code are run once, on an answer that says nothing: it must not pass."""
    if needs_judge(name):
        case = Case(query_id="", question="", answer="", reference=reference)
        judging = judge_grader(name)(case, Arm("nobody"))
        next(judging)
        judging.close()
    elif (bare := _known(name)[0]) == "code":
        check_tests(reference, **read_settings(bare, code_grader, _known(name)[1]))
    else:
        grader(name)("", reference)


def _known(name: str) -> tuple[str, dict[str, str]]:
    bare, settings = split_name(name)
    known = {**GRADERS, **JUDGE_GRADERS}
    if bare not in known:
        raise UnknownName(bare, known, what="grader")
    return bare, settings
