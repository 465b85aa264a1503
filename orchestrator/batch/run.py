"""Running a batch: what is still to be asked, asked in waves, and written down.

What is exactly once here, and why: a query's id in the ledger is the batch's name and a digest of
its line, the same in every process; an answered line is in the answers file, and is not asked
again; a line that is not, but some of whose calls were paid, gets these from the ledger. So a kill
can make only those calls be paid twice that were under way.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experts.errors import ConclaveError, DataError, LimitReached, UserError
from experts.values import Query
from orchestrator.batch.answers import AnswersFile, cannot_write
from orchestrator.batch.budget import Budget
from orchestrator.batch.claim import Claim, claim_path
from orchestrator.batch.errors_file import ErrorsFile, check_errors_file, errors_path
from orchestrator.batch.index import IdIndex
from orchestrator.batch.lines import BadLine, BatchLine, read_lines
from orchestrator.batch.records import answer_record, bad_line_record, error_record, identity_of
from orchestrator.conclave import IN_FLIGHT, IN_FLIGHT_BYTES, Conclave
from orchestrator.config import Config
from orchestrator.decision import Result
from orchestrator.queries import choices
from orchestrator.rest.schemas import to_query

SOURCE = "batch"
BLOCK = 512
"""Answers that are written, and made sure of on the disk, together ..."""
BLOCK_BYTES = 4 << 20
"""... or those to lines of so many bytes ..."""
BLOCK_S = 0.5
"""... or those of so many seconds: to be sure takes a busy disk 20 ms. None is lost when the
process is killed before, since their calls are in the ledger."""
_TELL_EVERY = 2000
"""Lines that are read, which takes a second or so."""
HOPELESS = 100
"""So many queries in a row that fail are a server that is down or a key that is refused."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchOptions:
    """What the caller may choose."""

    model: str = "conclave"
    """For lines that name none: a policy or an expert."""
    max_cost_usd: float | None = None
    """Of the whole batch, earlier processes included."""
    in_flight: int = IN_FLIGHT
    """Queries that are worked on at a time ..."""
    in_flight_bytes: int = IN_FLIGHT_BYTES
    """... and bytes of their lines; one that is larger goes alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchProgress:
    """How far a batch is."""

    n_queries: int
    n_answered: int
    """By earlier processes, too."""
    n_failed: int
    """Bad lines included."""
    cost_usd: float
    """So far, by earlier processes, too."""
    is_reading: bool = False
    """The files are still being looked at: ``n_queries`` grows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchSummary:
    """What became of a batch."""

    n_queries: int
    """Lines of the file that are not blank."""
    n_answered: int
    """In all; of them ``n_new`` by this process."""
    n_new: int
    n_failed: int
    """Asked, and nobody answered; or refused by a limit. They are asked again next time."""
    n_bad: int
    """Lines that cannot be asked as they are."""
    cost_usd: float
    """In all, earlier processes and the router's work included."""
    stopped: str | None
    """Why it ended before the end; None when everything was tried."""
    errors: Path
    """Where the failed and the bad are told of; there is no such file when there are none."""

    @property
    def n_left(self) -> int:
        """Neither answered nor tried."""
        return self.n_queries - self.n_answered - self.n_failed - self.n_bad


async def run_batch(
    conclave: Conclave,
    config: Config,
    queries: Path,
    out: Path,
    options: BatchOptions,
    *,
    on_progress: Callable[[BatchProgress], None] = lambda progress: None,
) -> BatchSummary:
    """Answer every line of ``queries`` that has no answer in ``out``, and append it there.

    A configured limit on a call's seconds is for somebody who waits, and not kept here; a line's
    own is. Raises UserError, before anybody is asked, when a file is not what it should be, and
    when writing fails; cancelling it is safe, and so is killing it.
    """
    _check_files(queries, out)
    conclave.decider.check_target(options.model.removeprefix("conclave/"))
    no_hurry = config.limits.model_copy(update={"timeout_s": None})
    config = config.model_copy(update={"limits": no_hurry})
    try:
        with (
            Claim(out, model=options.model) as claim,
            AnswersFile(out) as answers,
            IdIndex() as ids,
        ):
            batch = _Batch(conclave, config, options, claim.batch, answers, ids, on_progress)
            with ErrorsFile(errors_path(out)) as errors:
                batch.survey(queries, errors)
                await batch.run(queries, errors)
                return batch.summary(errors.path)
    except OSError as error:  # a full disk, a folder that is not ours: anywhere, at any moment
        raise UserError(cannot_write(Path(error.filename or out), error)) from None


def _check_files(queries: Path, out: Path) -> None:
    if not queries.is_file():
        raise DataError(
            f"{queries} is no file. A batch is read from a file, one JSON object a line, because "
            "it is read again when it goes on after an interruption."
        )
    if out.exists() and not out.is_file():
        raise DataError(f"{out} is no file that answers could be appended to. Name another --out.")
    if not out.parent.is_dir():
        raise DataError(f"There is no folder {out.parent}. Make it, or name another --out.")
    for ours in (out, errors_path(out), claim_path(out)):
        if ours.exists() and ours.samefile(queries):
            raise DataError(
                f"{queries} holds the queries, and --out {out} would write over it ({ours.name}). "
                "Name another --out, or rename the queries."
            )
    check_errors_file(errors_path(out))


@dataclass(slots=True)
class _Open:
    """A line whose queries are in flight: one, or OpenAI's ``n``."""

    line: BatchLine
    query_id: str
    results: dict[int, Result]
    n: int


class _Batch:
    """One process's work on a batch."""

    def __init__(
        self,
        conclave: Conclave,
        config: Config,
        options: BatchOptions,
        name: str,
        answers: AnswersFile,
        ids: IdIndex,
        on_progress: Callable[[BatchProgress], None],
    ) -> None:
        self._conclave, self._config, self._options = conclave, config, options
        self._name, self._answers, self._ids = name, answers, ids
        self._on_progress = on_progress
        spent = conclave.ledger.cost_usd_of(f"{name}-")
        self._budget = Budget(conclave.pool, options.max_cost_usd, spent_usd=spent)
        self._open: dict[str, tuple[_Open, int]] = {}
        """By query id; the number is of the choice."""
        self._written_at = time.monotonic()
        self._unwritten: list[dict[str, Any]] = []
        self._n_unwritten_bytes = 0
        self._n_queries = self._n_before = self._n_new = self._n_failed = self._n_bad = 0
        self._n_bytes = 0
        self._n_failed_in_a_row = 0
        self._stopped: str | None = None

    # Before anybody is asked.

    def survey(self, queries: Path, errors: ErrorsFile) -> None:
        """Look at both files: what is answered, what is there to ask, and which lines are bad."""
        for number, record in self._answers.records():
            self._know(number, record)
        errors.clear()
        self._n_bytes = queries.stat().st_size
        for line in self._lines(queries):
            self._n_queries += 1
            if self._n_queries % _TELL_EVERY == 0:
                self._tell(is_reading=True)
            problem = line if isinstance(line, BadLine) else self._problem_with(line)
            if problem:
                self._n_bad += 1
                errors.tell(bad_line_record(problem))
        if not self._n_queries:
            raise DataError(
                f'{queries} is empty. A line asks one question: {{"question": "What is 2 + 2?"}}'
            )
        if n := self._ids.n_answers_without_line():
            raise DataError(
                f"{self._answers.path} has {n} answers to queries that {queries} does not have, so "
                "it is of another file. Name another --out."
            )
        self._tell()

    def _know(self, number: int, record: dict[str, Any]) -> None:
        identity = identity_of(record)
        if identity is None or not identity[1].startswith(f"{self._name}-"):
            raise DataError(
                f"{self._answers.path}, line {number}: it is no answer of this batch. Name another "
                "--out."
            )
        line_id, query_id = identity
        if not self._ids.add_answer(line_id, query_id):
            raise DataError(
                f"{self._answers.path}, line {number}: {line_id!r} is answered twice, so something "
                "else has written there. Take one of them out."
            )
        self._n_before += 1

    def _problem_with(self, line: BatchLine) -> BadLine | None:
        """Why a line that can be read cannot be asked of this pool."""
        try:
            first = self._ids.add_line(line.id, self._query_id(line), line.number)
        except LookupError:
            raise DataError(
                f"{self._answers.path} has an answer for the id {line.id!r} to something else than "
                f"line {line.number} asks: it is of another file, or that line was changed. Name "
                "another --out; lines without an id are known by their number."
            ) from None
        try:
            if first is not None:
                raise DataError(f"the id {line.id!r} is that of line {first}, too")
            if not self._ids.is_open(line.id, line.number, self._query_id(line)):
                return None  # answered, by a pool that could
            for query in self._queries(line):
                self._conclave.check(query, line.request.target)
        except (UserError, ValueError) as error:
            return BadLine(number=line.number, id=line.id, problem=str(error))
        return None

    def _lines(self, queries: Path) -> Iterator[BatchLine | BadLine]:
        return read_lines(queries, model=self._options.model, n_bytes=self._n_bytes)

    def _query_id(self, line: BatchLine) -> str:
        return f"{self._name}-{line.digest}"

    def _queries(self, line: BatchLine) -> list[Query]:
        """One, or OpenAI's ``n``. Raises UserError or ValueError for what a limit forbids."""
        sampling = line.request.sampling(self._config)
        query = replace(
            to_query(line.request, self._config, sampling), query_id=self._query_id(line)
        )
        ids = [query.query_id, *(f"{query.query_id}.{i}" for i in range(1, line.request.n))]
        return choices(query, ids)

    # Asking.

    async def run(self, queries: Path, errors: ErrorsFile) -> None:
        results = self._conclave.answer_each(
            self._asked(queries),
            source=SOURCE,
            in_flight=self._options.in_flight,
            in_flight_bytes=self._options.in_flight_bytes,
            n_bytes_of=self._n_bytes_of,
            may_ask=self._budget.may_ask,
            on_calls=self._budget.settle,
            recalls_since_s=0.0,
        )
        try:
            async with aclosing(results):
                async for result in results:
                    self._take(result, errors)
                    if self._stopped:
                        break
        except sqlite3.OperationalError as error:  # the disk is full, mostly
            raise UserError(
                f"The ledger cannot be written: {error}. Make room or mend it, then run the same "
                "command again. It goes on where it stopped; only calls that were under way may "
                "be paid again."
            ) from None
        finally:
            self._write()
        if self._open and not self._stopped:
            self._stopped = (
                f"what another call may cost would pass the limit of {self._options.max_cost_usd:g}"
                f" $; {self._budget.spent_usd:.2e} $ are spent"
            )

    def _asked(self, queries: Path) -> Iterator[tuple[Query, str]]:
        for line in self._lines(queries):
            # A line that was changed since the survey is another question, for the next run.
            if isinstance(line, BadLine) or not self._ids.is_open(
                line.id, line.number, self._query_id(line)
            ):
                continue
            try:
                asked = self._queries(line)
                for query in asked:
                    self._conclave.check(query, line.request.target)
            except (UserError, ValueError):
                continue  # the survey has told of it
            going = _Open(line, asked[0].query_id, {}, len(asked))
            for i, query in enumerate(asked):
                self._open[query.query_id] = going, i
                yield query, line.request.target

    def _n_bytes_of(self, query: Query) -> int:
        """Its part of its line."""
        going, _ = self._open[query.query_id]
        return going.line.n_bytes // going.n

    def _take(self, result: Result, errors: ErrorsFile) -> None:
        self._budget.spent_usd += result.decision.router_cost_usd
        going, i = self._open.pop(result.decision.query.query_id)
        going.results[i] = result
        if len(going.results) < going.n:
            return
        try:
            ordered = [going.results[j] for j in range(going.n)]
            self._unwritten.append(answer_record(going.line, going.query_id, ordered))
            self._n_unwritten_bytes += going.line.n_bytes  # what is given back of it is as long
            self._n_new += 1
            self._n_failed_in_a_row = 0
        except ConclaveError as error:
            errors.tell(error_record(going.line, going.query_id, error))
            self._n_failed += 1
            self._n_failed_in_a_row += not isinstance(error, LimitReached)
            if self._n_failed_in_a_row >= HOPELESS:
                self._stopped = f"{HOPELESS} queries in a row failed, the last one so: {error}"
        now = time.monotonic()
        is_much = len(self._unwritten) >= BLOCK or self._n_unwritten_bytes >= BLOCK_BYTES
        if is_much or now - self._written_at > BLOCK_S:
            self._write()
            self._written_at = now
        self._tell()

    def _write(self) -> None:
        if self._unwritten:
            written, self._unwritten = self._unwritten, []
            self._n_unwritten_bytes = 0
            self._answers.append(written)

    # Telling.

    def _tell(self, *, is_reading: bool = False) -> None:
        self._on_progress(
            BatchProgress(
                n_queries=self._n_queries,
                n_answered=self._n_before + self._n_new,
                n_failed=self._n_failed + self._n_bad,
                cost_usd=self._budget.spent_usd,
                is_reading=is_reading,
            )
        )

    def summary(self, errors: Path) -> BatchSummary:
        return BatchSummary(
            n_queries=self._n_queries,
            n_answered=self._n_before + self._n_new,
            n_new=self._n_new,
            n_failed=self._n_failed,
            n_bad=self._n_bad,
            cost_usd=self._conclave.ledger.cost_usd_of(f"{self._name}-"),
            stopped=self._stopped,
            errors=errors,
        )
