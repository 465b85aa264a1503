"""Inspect's logs: ``.eval`` archives and ``.json`` files, one log per model and task.

Of a log: ``eval.model``, ``eval.task``, ``status``; of a sample: ``id``, ``epoch``, ``input`` (text
or messages), ``choices``, ``target``, ``scores`` and ``model_usage``. C is 1, P is 0.5, I and N are
0, as in Inspect; numbers are taken as they are, NaN means unscored. Of several scorers the first
counts unless one is named. Epochs beyond the first are models of their own (``name#2``). Tokens and
dollars are those of the model that is judged, not of one that grades; tokens read from and written
to a cache are input tokens, too. Samples that were not scored, or declared invalid, have no score.

Logs of a run that is still going on, or crashed, are refused. Newer ``.eval`` logs are compressed
with zstandard, which Python reads from 3.14 on; before, the package zipfile-zstd (which comes with
Inspect) is needed.

Read from: github.com/UKGovernmentBEIS/inspect_ai at 499e615 (``log/_log.py``, ``log/_recorders``,
``scorer/_metric.py``, ``model/_model_output.py`` and logs in ``tests/``, none of them with
zstandard).
"""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.outcomes.matrix import MatrixRow, OutcomeMatrix
from eval.outcomes.readers.answers import with_choices
from eval.outcomes.readers.files import (
    files_in,
    has_keys,
    head_of,
    known_cost,
    number,
    open_zip,
    parse_json,
    read_json,
    read_member,
    record_with,
    text,
)
from eval.outcomes.readers.gathering import Gathering
from experts.errors import DataError, did_you_mean

PATTERNS = ("**/*.eval", "**/*.json")
HEADER_FIELDS = ("status", "eval")
SAMPLE_FIELDS = ("id", "epoch", "input", "target")
GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_SAMPLE = re.compile(r"samples/.+_epoch_\d+\.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Log:
    """One log file, opened."""

    file: Path
    task: str
    model: str
    samples: Iterator[tuple[str, Any]]
    """(where it stands, sample)"""


def recognises(path: Path) -> bool:
    """By the ending ``.eval``, or by the names of a JSON file's fields."""
    try:
        files = files_in(path, *PATTERNS)
    except DataError:
        return False
    return any(f.suffix == ".eval" for f in files) or any(map(_is_json_log, files))


def read(path: Path, *, scorer: str | None = None) -> OutcomeMatrix:
    """One log, or a folder of them, however deep; other JSON files in it are passed over."""
    gathering = Gathering(path)
    for file in files_in(path, *PATTERNS):
        if file.suffix != ".eval" and path.is_dir() and not _is_json_log(file):
            continue
        log = _archive(file) if file.suffix == ".eval" else _json(file)
        for where, sample in log.samples:
            _add(gathering, log, record_with(sample, SAMPLE_FIELDS, where), scorer, where)
    return gathering.matrix()


def _is_json_log(file: Path) -> bool:
    return file.suffix == ".json" and has_keys(head_of(file), *HEADER_FIELDS, "task", "model")


def _json(file: Path) -> _Log:
    header = record_with(read_json(file), HEADER_FIELDS, str(file))
    samples = header.get("samples") or []
    located = ((f"{file}, sample {i}", sample) for i, sample in enumerate(samples, 1))
    return _log(file, header, located)


def _archive(file: Path) -> _Log:
    with _zstandard_explained(file), open_zip(file) as archive:
        names = archive.namelist()
        if "header.json" not in names:
            raise _unfinished(file)
        header = parse_json(read_member(archive, "header.json", str(file)), f"{file}/header.json")
    if any(name.endswith("/sample.json") for name in names):
        raise DataError(
            f"{file} keeps its samples in chunks, which cannot be read here. Convert it: "
            "inspect log convert LOG --to json --output-dir FOLDER."
        )
    wanted = sorted(filter(_SAMPLE.fullmatch, names), key=_epoch)
    return _log(file, record_with(header, HEADER_FIELDS, str(file)), _members(file, wanted))


def _epoch(name: str) -> int:
    return int(name.rpartition("_")[2].removesuffix(".json"))


def _members(file: Path, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    with _zstandard_explained(file), open_zip(file) as archive:
        for name in names:
            where = f"{file}/{name}"
            yield where, parse_json(read_member(archive, name, where), where)


@contextlib.contextmanager
def _zstandard_explained(file: Path) -> Iterator[None]:
    with contextlib.suppress(ImportError):
        importlib.import_module("zipfile_zstd")  # teaches zipfile, where it is installed
    try:
        yield
    except NotImplementedError:
        raise DataError(
            f"{file} is compressed with zstandard. pip install zipfile-zstd, or convert the log: "
            "inspect log convert LOG --to json --output-dir FOLDER."
        ) from None


def _log(file: Path, header: Mapping[str, Any], samples: Iterator[tuple[str, Any]]) -> _Log:
    if header["status"] == "started":
        raise _unfinished(file)
    spec = record_with(header["eval"], ("task", "model"), f"{file}, eval")
    return _Log(file=file, task=str(spec["task"]), model=str(spec["model"]), samples=samples)


def _unfinished(file: Path) -> DataError:
    return DataError(
        f"{file} is the log of a run that has not ended. Wait for it, or if it crashed: "
        "inspect log recover LOG."
    )


def _add(
    gathering: Gathering, log: _Log, sample: Mapping[str, Any], scorer: str | None, where: str
) -> None:
    prompt = _prompt(sample["input"])
    if sample.get("choices"):
        prompt = with_choices(prompt, [str(c) for c in sample["choices"]], ")")
    target = sample["target"]
    query_id = gathering.query(
        f"{log.task}:{sample['id']}",
        task=log.task,
        prompt=prompt,
        answer=text(target[0] if isinstance(target, list) and len(target) == 1 else target),
    )
    score, pred = _score(sample, scorer, where)
    usage: Mapping[str, Any] = (sample.get("model_usage") or {}).get(log.model) or {}
    epoch = int(sample["epoch"])
    row = MatrixRow(
        query_id=query_id,
        model=log.model if epoch == 1 else f"{log.model}#{epoch}",
        score=score,
        pred=pred,
        input_tokens=_sum(
            number(usage.get(name), name, where)
            for name in ("input_tokens", "input_tokens_cache_read", "input_tokens_cache_write")
        ),
        output_tokens=number(usage.get("output_tokens"), "output_tokens", where),
        cost_usd=known_cost(usage.get("total_cost"), "total_cost", where),
    )
    gathering.outcome(row, log.file)


def _sum(parts: Iterator[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def _prompt(given: object) -> str:
    """Text, or what of messages is text, joined by empty lines."""
    if not isinstance(given, list):
        return str(given)
    contents = [message.get("content") for message in given if isinstance(message, dict)]
    parts = [[c] if isinstance(c, str) else c or [] for c in contents]
    texts = [p if isinstance(p, str) else p.get("text") for part in parts for p in part]
    return "\n\n".join(t for t in texts if t)


def _score(
    sample: Mapping[str, Any], scorer: str | None, where: str
) -> tuple[float | None, str | None]:
    """Score and extracted answer; None where there is none."""
    scores: Mapping[str, Any] = sample.get("scores") or {}
    if not scores or sample.get("invalidation"):
        return None, None
    name = scorer or next(iter(scores))
    if name not in scores:
        raise DataError(
            f"{where}: no score of the scorer {name!r}.{did_you_mean(name, scores)} There are "
            f"{', '.join(scores)}."
        )
    found = record_with(scores[name], ("value",), f"{where}, scores")
    value = found["value"]
    if isinstance(value, (dict, list)):
        raise DataError(
            f"{where}: the scorer {name!r} gives several values at once, and an outcome has one. "
            f"Name a scorer that gives one: read(path, scorer=...). There are {', '.join(scores)}."
        )
    if isinstance(value, str):
        value = GRADES.get(value, GRADES.get(value.lower(), value))
    return number(value, f"the value of {name!r}", where), text(found.get("answer"))
