"""Whether an engine holds the weights that it should, by what it tells."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from experts.bundled import FOLDER
from experts.errors import EngineFailed
from experts.vllm.checkpoint import Checkpoint, read_checkpoint
from experts.vllm.verify import Verifier, _digests

FULL, HALF = ("--dtype", "float32"), ("--dtype", "float16")
NORM, LAYER = "model.norm.weight", "model.layers.0.self_attn.o_proj.weight"


@dataclass
class Engine:
    """What it tells of the weights that it holds."""

    holds: Checkpoint
    says: int = 0
    """Its first token; the next follow."""
    keeps: tuple[str, ...] = (NORM, LAYER)
    """Tensors that are as in the file."""
    logprob: float | None = -0.25
    n_tokens: int = 8
    runner_up: tuple[int, float] = (999, -3.0)
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def checksums(self) -> dict[str, str]:
        of_file = _digests(self.holds.folder)
        return {name: min(of_file[name]) for name in self.keeps}

    async def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body)
        ids = list(range(self.says, self.says + self.n_tokens))
        other, less = self.runner_up
        tops = [{f"token_id:{i}": self.logprob, f"token_id:{other}": less} for i in ids]
        told = {"token_logprobs": [self.logprob] * len(ids), "top_logprobs": tops}
        return {"choices": [{"token_ids": ids, "logprobs": told, "finish_reason": "length"}]}


@pytest.fixture(scope="module")
def logic() -> Checkpoint:
    return read_checkpoint(FOLDER / "logic")


@pytest.fixture(scope="module")
def units() -> Checkpoint:
    return read_checkpoint(FOLDER / "units")


def check(
    verifier: Verifier,
    engine: Engine,
    of: Checkpoint,
    args: tuple[str, ...] = FULL,
    *,
    is_start: bool = False,
) -> None:
    asyncio.run(verifier.check(engine, "it", of, args, is_start=is_start))  # type: ignore[arg-type]


def test_a_model_must_say_what_it_said_before(logic: Checkpoint) -> None:
    verifier = Verifier()
    check(verifier, Engine(logic, says=5), logic, is_start=True)
    check(verifier, Engine(logic, says=5, logprob=-0.26), logic)
    for other in (
        Engine(logic, says=5, logprob=-0.4),
        Engine(logic, says=6),  # as sure of something else
        Engine(logic, n_tokens=0),
    ):
        with pytest.raises(EngineFailed, match="does not say what"):
            check(verifier, other, logic)


def test_of_two_words_that_are_equally_likely_it_may_say_either(logic: Checkpoint) -> None:
    verifier = Verifier()
    first, other = (
        Engine(logic, says=5, logprob=-0.71, runner_up=(6, -0.72)),
        Engine(logic, says=6, logprob=-0.70, runner_up=(5, -0.72)),
    )
    check(verifier, first, logic, is_start=True)
    check(verifier, other, logic)


def test_tensors_must_be_those_of_the_file(logic: Checkpoint, units: Checkpoint) -> None:
    verifier = Verifier()
    check(verifier, Engine(logic), logic, is_start=True)
    with pytest.raises(EngineFailed, match=r"2 tensors are not .*o_proj"):
        check(verifier, Engine(logic, says=9), units)
    check(verifier, Engine(units, says=9), units)


def test_one_folder_in_two_precisions_does_not_refuse_itself(
    logic: Checkpoint, units: Checkpoint
) -> None:
    """In half precision it says something else, and quantized it keeps fewer of its tensors."""
    verifier = Verifier()
    check(verifier, Engine(logic, says=5, keeps=(NORM,)), logic, HALF, is_start=True)
    check(verifier, Engine(logic, says=7), logic, FULL, is_start=True)
    assert verifier.sees_layers(units, FULL)
    assert not verifier.sees_layers(units, HALF)
    check(verifier, Engine(units, says=9, keeps=(NORM,)), units, HALF)
    check(verifier, Engine(logic, says=5, keeps=(NORM,)), logic, HALF)
    check(verifier, Engine(logic, says=7), logic, FULL)


def test_slots_that_differ_in_memory_share_what_was_seen(logic: Checkpoint) -> None:
    verifier = Verifier(max_hashed_bytes=0)
    check(verifier, Engine(logic), logic, (*FULL, "--gpu-memory-utilization=0.4"), is_start=True)
    other = (*FULL, "--gpu_memory_utilization", "0.5", "--max-num-seqs", "8")
    assert verifier.can_tell(logic, other)
    check(verifier, Engine(logic), logic, other)
    assert not verifier.can_tell(logic, HALF)


def test_a_first_answer_is_believed_where_checksums_vouch_or_after_a_start(
    logic: Checkpoint,
) -> None:
    check(Verifier(), Engine(logic), logic)
    large = replace(logic, n_bytes=int(3e9))
    verifier = Verifier()
    with pytest.raises(EngineFailed, match="too large for checksums"):
        check(verifier, Engine(large), large)
    check(verifier, Engine(large), large, is_start=True)
    check(verifier, Engine(large), large)


def test_a_first_answer_that_was_wrong_is_settled_by_a_start(logic: Checkpoint) -> None:
    """Checksums did not see it, and it was believed: from then on the right weights are refused."""
    verifier = Verifier()
    check(verifier, Engine(logic, says=66), logic)
    with pytest.raises(EngineFailed, match="started with it settles"):
        check(verifier, Engine(logic, says=5, logprob=-2.0), logic)
    check(verifier, Engine(logic, says=5, logprob=-2.0), logic, is_start=True)
    check(verifier, Engine(logic, says=5, logprob=-2.0), logic)
    with pytest.raises(EngineFailed):
        check(verifier, Engine(logic, says=66), logic)


@pytest.mark.parametrize("logprob", [math.nan, -math.inf, None])
@pytest.mark.parametrize("is_start", [True, False])
def test_a_model_that_computes_no_numbers_is_refused_even_when_it_was_started(
    logic: Checkpoint, logprob: float | None, is_start: bool
) -> None:
    with pytest.raises(EngineFailed, match="no numbers"):
        check(Verifier(), Engine(logic, logprob=logprob), logic, is_start=is_start)


def test_vocabularies_that_are_small_or_not_told_are_asked_of(logic: Checkpoint) -> None:
    for config, most in (({"vocab_size": 4}, 3), ({}, 999)):
        engine = Engine(logic)
        check(Verifier(), engine, replace(logic, config=config), is_start=True)
        assert max(engine.asked[0]["prompt"]) <= most
    assert json.dumps(engine.asked[0])


def test_files_of_other_precisions_are_known_by_their_digests(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    values = np.linspace(-3, 3, 65 * 2, dtype=np.float32).reshape(65, 2)
    save_file({"it": values}, tmp_path / "model.safetensors")
    [wide] = _digests(tmp_path).values()
    save_file({"it": values.astype(np.float16)}, tmp_path / "model.safetensors")
    [half] = _digests(tmp_path).values()
    assert wide & half  # as half, and padded to 128 rows
    assert len(wide & half) == 2
