"""Questions of inspect_ai tasks: of a task only its data set and the kind of its scorer are used.

Loading a task runs its Python: name only tasks that you trust. Logs of runs are another thing, and
read by ``eval/outcomes/readers``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eval.questions import Question, question_of
from experts.errors import ConfigError, DataError

INSTALL = "pip install 'conclave-coe[inspect]'"
_FORM = "A sample has an input, a target, and choices if you like."
GRADERS: Mapping[str, str] = {
    "choice": "choice",
    "exact": "exact",
    "match": "exact",
    "includes": "exact",
    "answer": "exact",
    "pattern": "exact",
    "model_graded_qa": "judge_pointwise(scale=1)",
    "model_graded_fact": "judge_pointwise(scale=1)",
}
"""Scorers, and our graders that are nearest to them. Where that is too strict (``includes`` is met
by any text that holds the target), --grader names another."""


def read_task(spec: str, default_grader: str | None, limit: int | None = None) -> list[Question]:
    """The samples of the task at ``file.py[@task]``, or of a registered one.

    Raises DataError for what is no task or has no text, ConfigError where inspect_ai is not
    installed, or where it has a scorer that no grader of ours stands for and none was named.
    """
    try:
        from inspect_ai._eval.loader import load_tasks
        from inspect_ai._util.registry import registry_unqualified_name
    except ImportError:
        raise ConfigError(f"inspect_ai tasks need inspect_ai: {INSTALL}") from None
    try:
        tasks = load_tasks([spec])
    except Exception as error:  # whatever the task's own code raises
        raise DataError(
            f"The task {spec} cannot be loaded: {type(error).__name__}: {error}"
        ) from None
    if len(tasks) != 1:
        names = ", ".join(t.name for t in tasks) or "none"
        raise DataError(f"{spec} holds {len(tasks)} tasks ({names}). Name one: {spec}@NAME.")
    [task] = tasks
    scorers = [registry_unqualified_name(s) for s in task.scorer or ()]
    questions = []
    for i, sample in enumerate(task.dataset, start=1):
        where = f"{spec}, sample {sample.id or i}"
        fields: dict[str, Any] = {"question": _text(sample.input, where), "skill": None}
        targets = [sample.target] if isinstance(sample.target, str) else list(sample.target)
        fields |= {"answer": targets[0] if targets else "", "also_right": targets[1:]}
        if sample.choices:
            fields |= {"options": sample.choices, "also_right": ()}
        fields["grader"] = _grader(scorers, default_grader, spec)
        questions.append(question_of(fields, where, _FORM))
        if limit is not None and len(questions) >= limit:
            break
    if not questions:
        raise DataError(f"{spec} holds no samples.")
    return questions


def _grader(scorers: list[str], default: str | None, spec: str) -> str:
    known = [GRADERS[name] for name in scorers if name in GRADERS]
    if default or known:
        return default or known[0]
    raise ConfigError(
        f"No grader stands for the scorer of {spec} ({', '.join(scorers) or 'it has none'}). Name "
        "one: --grader numeric, for example."
    )


def _text(given: Any, where: str) -> str:
    """The question: the input, or the last user message of a conversation of text."""
    if isinstance(given, str):
        return given
    texts = [m.text for m in given if m.role == "user"]
    if len(texts) != 1 or len(given) != 1:
        raise DataError(
            f"{where}: its input is a conversation of {len(given)} messages; only single questions "
            "can be recorded."
        )
    return str(texts[0])
