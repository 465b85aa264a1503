"""Models come and go on engines, each the quickest way that is safe, and those who waited pay."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from experts.bundled import FOLDER
from experts.residency.policies.first_come import first_come
from experts.vllm.slot import SlotSettings
from tests.engines import FAMILY, PRICES, ask, lab
from tests.experts.vllm.fleets import answers, until


def test_each_model_is_loaded_once_for_all_that_wait_and_pays_for_it_once(tmp_path: Path) -> None:
    with lab(tmp_path) as it:
        said = answers(it.experts, *FAMILY, n=5)
        for name, completions in said.items():
            assert {c.text for c in completions} == {f"I am {name}"}
            for c in completions:
                assert c.cost_usd == pytest.approx(PRICES.cost_usd(c.usage, c.load_s))
                assert c.load_s > 0
        assert [way for way, _, _ in it.ways] == ["restart", "in_place", "in_place", "in_place"]
        took_s = sum(s.seconds for s in it.fleet.record.swaps)
        charged_s = sum(c.load_s for completions in said.values() for c in completions)
        assert took_s <= charged_s < 2 * took_s + 0.5  # checks of folders, and a busy machine
        resident = it.slot.base
        [again] = answers(it.experts, resident)[resident]
        assert again.load_s == 0
        assert len(it.ways) == 4


def test_a_load_whose_callers_left_is_charged_to_the_next(tmp_path: Path) -> None:
    with lab(tmp_path, names=("logic",)) as it:
        it.order("hold_at_start")

        async def leave() -> None:
            task = asyncio.ensure_future(it.experts["logic"].complete([ask("logic")]))
            while it.slot.engine.pid is None:
                await asyncio.sleep(0.01)
            task.cancel()
            [left] = await task
            assert (left.finish_reason, left.load_s) == ("cancelled", 0)

        asyncio.run(leave())
        (tmp_path / "faults" / "hold_at_start").unlink()
        until(lambda: it.slot.base == "logic")
        late, later = answers(it.experts, "logic")["logic"] + answers(it.experts, "logic")["logic"]
        [loaded] = it.fleet.record.swaps
        assert loaded.seconds <= late.load_s < loaded.seconds + 1
        assert late.cost_usd == pytest.approx(PRICES.cost_usd(late.usage, late.load_s))
        assert later.load_s == 0


def test_what_is_too_large_for_checksums_is_started_once_before_it_is_reloaded(
    tmp_path: Path,
) -> None:
    """Nothing else would tell whether the reload has changed anything."""
    with lab(tmp_path, names=("logic", "units"), is_tied=False, max_hashed_bytes=0) as it:
        it.order("stale_swap")  # it would be believed
        for name in ("logic", "units", "logic", "units"):
            [c] = answers(it.experts, name)[name]
            assert c.text == f"I am {name}"
        assert it.ways == [
            ("restart", "logic", True),
            ("restart", "units", True),
            ("in_place", "logic", False),
            ("restart", "logic", True),
            ("in_place", "units", True),
        ]


def test_an_adapter_answers_beside_its_base_without_a_swap(tmp_path: Path) -> None:
    with lab(tmp_path, names=("countries",), adapters={"polite": "countries"}) as it:
        said = answers(it.experts, "countries", "polite")
        assert [c.text for [c] in said.values()] == ["I am countries", "I am polite"]
        assert sorted(it.ways) == [("adapter", "polite", True), ("restart", "countries", True)]
        answers(it.experts, "countries", "polite")
        assert len(it.ways) == 2


@pytest.mark.parametrize(("sees_layers", "way"), [(True, "in_place"), (False, "restart")])
def test_a_base_that_leaves_takes_its_adapters_along(
    tmp_path: Path, sees_layers: bool, way: str
) -> None:
    """vLLM on CPUs forgets the linear layers when it reloads an engine that takes adapters, so
    that is done only where it would be seen."""
    names, adapters = ("countries", "logic"), {"polite": "countries"}
    with lab(tmp_path, names=names, adapters=adapters, sees_layers=sees_layers) as it:
        for name in ("polite", "logic", "polite"):
            [c] = answers(it.experts, name)[name]
            assert c.text == f"I am {name}"
        assert [way for way, _, _ in it.ways] == ["restart", "adapter", way, way, "adapter"]


def test_a_head_that_is_tied_to_the_embeddings_is_not_left_to_a_reload(tmp_path: Path) -> None:
    """vLLM on CPUs went on scoring words with the head of the model before."""
    with lab(tmp_path, names=("countries", "logic"), sees_layers=False) as it:
        for name in ("countries", "logic"):
            answers(it.experts, name)
        assert [way for way, _, _ in it.ways] == ["restart", "restart"]
    own = json.loads((FOLDER / "logic" / "config.json").read_text())
    assert own["tie_word_embeddings"]


@pytest.mark.parametrize("level", [1, 2])
def test_an_engine_sleeps_for_another_family_and_wakes_up(tmp_path: Path, level: int) -> None:
    settings = SlotSettings(sleep_level=level)  # type: ignore[arg-type]
    with lab(tmp_path, names=("countries", "words", "logic"), slot=settings) as it:
        for name in ("countries", "words", "countries", "words"):
            [c] = answers(it.experts, name)[name]
            assert c.text == f"I am {name}"
        assert [w for w, _, _ in it.ways] == ["restart", "restart", "wake", "wake"]
        answers(it.experts, "logic")
        # Level 2 has dropped the weights, so its engine may get any of the family.
        assert it.ways[-1][0] == ("restart" if level == 1 else "wake")
        answers(it.experts, "words")
        answers(it.experts, "countries")
        # Names of engines, and with them logs, are used again.
        engines = {path.name.partition(".")[0] for path in (tmp_path / "logs").iterdir()}
        assert engines == {"slot0", "slot0-2"}


def test_what_a_load_would_take_is_told_to_any_thread_while_models_come_and_go(
    tmp_path: Path,
) -> None:
    with lab(tmp_path, policy=first_come()) as it, ThreadPoolExecutor(4) as pool:
        is_over = threading.Event()

        def look(name: str) -> tuple[int, int]:
            n_loaded = n_looks = 0
            while not is_over.is_set():
                outlook = it.experts[name].load_outlook()
                assert outlook is None or (outlook.load_s or 0) > 0
                n_loaded, n_looks = n_loaded + (outlook is None), n_looks + 1
                time.sleep(0.001)
            return n_loaded, n_looks

        looks = [pool.submit(look, name) for name in FAMILY]
        try:
            for name in FAMILY * 3:
                answers(it.experts, name)
        finally:
            is_over.set()
        for n_loaded, n_looks in (looking.result() for looking in looks):
            assert 0 < n_loaded < n_looks
