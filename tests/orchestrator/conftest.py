"""What several tests of the orchestrator start from."""

from __future__ import annotations

import asyncio

import pytest

from eval.recording.record import record_outcomes
from experts.expert import Pool
from orchestrator.fitted import Fitted
from orchestrator.fitting import fit_pool
from orchestrator.ledger import Ledger
from skills.embedders import HashingEmbedder
from tests import pools


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    """The scripted pool, fitted on what it answered to its training questions."""
    asked = [q for q in pools.questions() if q.split == "train"]
    with Ledger(":memory:") as ledger:
        asyncio.run(record_outcomes(asked, pools.experts(), ledger))
        calls = list(ledger.recorded_calls())
    pool = Pool.of(pools.experts().values())
    return fit_pool(calls, pool, HashingEmbedder(), pools.CATEGORY_OF)
