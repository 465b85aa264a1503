"""Modes: data that becomes a prompt in one place."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from experts.expert import Pool
from experts.fake import FakeExpert
from experts.modes import DIRECT, Mode, shipped_modes
from experts.values import NO_LIMITS, Arm, Completion, Limits, Message
from orchestrator.config import Config
from orchestrator.drivers.live import run_live
from orchestrator.drivers.run import Run
from orchestrator.strategies.single import only
from tests import pools

REASON = shipped_modes()["reason"]


def record_nothing(completions: Sequence[Completion]) -> None: ...


def test_a_mode_says_how_to_work_and_never_who_to_be() -> None:
    assert set(shipped_modes()) == {"direct", "instant", "reason", "program", "ranked"}
    for mode in shipped_modes().values():
        assert "you are" not in mode.instruction.lower(), mode.name


def test_the_instruction_joins_the_system_message() -> None:
    user, system = Message(role="user", content="?"), Message(role="system", content="Be brief.")
    assert [m.role for m in REASON.put([user])] == ["system", "user"]
    [first, _] = REASON.put([system, user])
    assert first.content == f"Be brief.\n\n{REASON.instruction}"
    assert DIRECT.put([user]) == (user,)


@pytest.mark.parametrize("mode", ["direct", "reason"])
def test_an_arm_is_asked_in_its_mode(mode: str) -> None:
    expert = FakeExpert("e", lambda call: "yes", modes=(DIRECT, REASON))
    pool = Pool.of([expert])
    assert [str(arm) for arm in pool.arms] == ["e", "e:reason"]
    run = Run(only(pools.query("?"), Arm("e", mode)), NO_LIMITS, pool)
    answer = asyncio.run(run_live(run, {"e": expert}, record_nothing))
    [[call]] = expert.batches
    assert (REASON.instruction in call.messages[0].content) == (mode == "reason")
    assert answer.contributors == (Arm("e", mode),)


def test_what_a_mode_adds_is_in_the_bound_on_dollars() -> None:
    long = Mode("long", "x" * 1000)
    expert = FakeExpert("e", lambda call: "yes", modes=(DIRECT, long))
    pool, query = Pool.of([expert]), pools.query("?")
    plain = Run(only(query, Arm("e")), NO_LIMITS, pool).pending[0]
    limit = Limits(max_cost_usd=pool.most_usd(plain))
    assert Run(only(query, Arm("e")), limit, pool).pending
    assert not Run(only(query, Arm("e", "long")), limit, pool).pending


def test_owners_add_modes_and_name_them_for_an_expert() -> None:
    told = {"kind": "openai", "name": "e", "model": "m", "base_url": "http://x/v1",
            "prices": {"input_usd_per_mtok": 0, "output_usd_per_mtok": 0}}  # fmt: skip
    config = Config.model_validate(
        {
            "experts": [{**told, "modes": ["direct", "haiku"]}],
            "modes": {"haiku": "In 17 syllables."},
        }
    )
    from orchestrator.pool import make_experts

    [expert] = make_experts(config).values()
    assert expert.card.modes == (DIRECT, Mode("haiku", "In 17 syllables."))
    wrong = Config.model_validate({"experts": [{**told, "modes": ["reson"]}]})
    with pytest.raises(Exception, match="reason"):
        make_experts(wrong)
