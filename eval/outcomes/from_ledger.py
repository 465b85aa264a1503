"""The ledger's recorded outcomes as an outcome matrix.

Of each expert only what its present weights did counts; of each arm the first, greedy sample, and
further samples as models of their own (``words#2``). Dollars are today's prices of the recorded
tokens, without loading: what was paid at the time, retries and all, is in the ledger.
"""

from __future__ import annotations

from dataclasses import replace

from eval.outcomes.matrix import MatrixQuery, MatrixRow, OutcomeMatrix, matrix_of
from eval.outcomes.splits import split_of
from experts.errors import DataError
from experts.expert import Pool
from orchestrator.config import Config
from orchestrator.ledger import Ledger, RecordedCall
from orchestrator.pool import make_experts

UNLABELLED = "unlabelled"
"""The task of questions that came without a skill."""


def matrix_of_config(config: Config) -> OutcomeMatrix:
    """Of the configured pool, from its ledger. Raises DataError where nothing is recorded."""
    pool = Pool.of(make_experts(config).values())
    if not config.ledger_path.exists():
        raise DataError(
            f"There is no ledger at {config.ledger_path}. Record first: conclave record QUESTIONS"
        )
    with Ledger(config.ledger_path) as ledger:
        return matrix_of_ledger(ledger, pool)


def matrix_of_ledger(ledger: Ledger, pool: Pool) -> OutcomeMatrix:
    """Graded answers of the pool's experts. Questions that came without a split get one by their
    prompt (``eval/outcomes/splits.py``): the same one on every machine.

    Raises DataError where there are none.
    """
    versions = pool.versions
    latest: dict[tuple[str, str], RecordedCall] = {}
    for recorded in ledger.recorded_calls():
        call = recorded.completion.call
        is_current = versions.get(call.arm.expert) == recorded.version
        if recorded.score is not None and is_current:
            latest[call.query_id, _model(recorded)] = recorded
    if not latest:
        raise DataError(
            f"The ledger {ledger.path} has no graded outcomes of {', '.join(pool.names)}. Record "
            "some: conclave record QUESTIONS"
        )
    queries = {r.completion.call.query_id: _query(r) for r in latest.values()}
    rows = [_row(recorded, query_id, model, pool) for (query_id, model), recorded in latest.items()]
    arms = [str(arm) for arm in pool.arms]
    models = sorted({m for _, m in latest}, key=lambda m: (arms.index(m.partition("#")[0]), m))
    return matrix_of(queries.values(), rows, source=str(ledger.path), models=models)


def _model(recorded: RecordedCall) -> str:
    call = recorded.completion.call
    return str(call.arm) if call.sample == 0 else f"{call.arm}#{call.sample + 1}"


def _query(recorded: RecordedCall) -> MatrixQuery:
    call = recorded.completion.call
    prompt = "\n\n".join(m.content for m in call.messages)
    return MatrixQuery(
        query_id=call.query_id,
        task=recorded.skill or UNLABELLED,
        prompt=prompt,
        answer=recorded.reference[0] if recorded.reference else None,
        split=recorded.split or split_of(prompt),
    )


def _row(recorded: RecordedCall, query_id: str, model: str, pool: Pool) -> MatrixRow:
    completion = recorded.completion
    prices = pool.card(completion.call.arm.expert).prices
    # What a server happened to have in its cache then says nothing of the next question.
    usage = replace(completion.usage, cached_tokens=0)
    was_made = completion.ok or completion.cost_usd > 0
    cost_usd = prices.cost_usd(usage, n_calls=int(was_made))
    return MatrixRow(
        query_id=query_id,
        model=model,
        score=recorded.score,
        pred=completion.answer or None,
        input_tokens=completion.usage.input_tokens,
        output_tokens=completion.usage.output_tokens,
        cost_usd=cost_usd,
    )
