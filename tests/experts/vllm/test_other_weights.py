"""A model whose folder is not as it was when Conclave started is not served under its name."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from experts.residency.policies.first_come import first_come
from experts.values import Completion
from tests.engines import ask, lab
from tests.experts.vllm.fleets import answers


def test_other_weights_are_not_served_under_the_name(tmp_path: Path) -> None:
    with lab(tmp_path, policy=first_come()) as it:
        answers(it.experts, "logic")
        shutil.copy(tmp_path / "logic" / "model.safetensors", tmp_path / "units")
        [c] = answers(it.experts, "units")["units"]
        assert "holds other weights than when Conclave started" in (c.error or "")


@pytest.mark.parametrize(
    ("folder", "file", "key"),
    [("units", "config.json", "rope_theta"), ("polite", "adapter_config.json", "lora_alpha")],
)
def test_a_model_that_is_configured_otherwise_is_not_served_under_the_name(
    tmp_path: Path, folder: str, file: str, key: str
) -> None:
    with lab(tmp_path, adapters={"polite": "logic"}, policy=first_come()) as it:
        answers(it.experts, "logic")
        path = tmp_path / folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: 7}))
        [c] = answers(it.experts, folder)[folder]
        assert "has another configuration than when Conclave started" in (c.error or "")
        assert len(it.ways) == 1


@pytest.mark.parametrize(
    ("file", "more"),
    [
        ("chat_template.jinja", "{# other words #}"),
        ("tokenizer_config.json", " "),
        ("tokenizer.json", " "),
    ],
)
def test_a_model_that_is_spoken_to_otherwise_is_not_served_under_the_name(
    tmp_path: Path, file: str, more: str
) -> None:
    with lab(tmp_path, policy=first_come()) as it:
        answers(it.experts, "logic")
        with (tmp_path / "units" / file).open("a") as tail:
            tail.write(more)
        [c] = answers(it.experts, "units")["units"]
        assert "another tokenizer or chat template than when Conclave" in (c.error or "")
        assert len(it.ways) == 1


def test_a_folder_that_is_written_while_an_engine_reads_it_is_not_served(tmp_path: Path) -> None:
    with lab(tmp_path, policy=first_come()) as it:
        it.order("hold_at_start")

        async def body() -> Completion:
            task = asyncio.ensure_future(it.experts["logic"].complete([ask("logic")]))
            while it.slot.engine.pid is None:
                await asyncio.sleep(0.01)
            shutil.copy(tmp_path / "units" / "model.safetensors", tmp_path / "logic")
            (tmp_path / "faults" / "hold_at_start").unlink()
            return (await task)[0]

        c = asyncio.run(body())
        assert "holds other weights than when Conclave started" in (c.error or "")
        [c] = answers(it.experts, "units")["units"]
        assert c.text == "I am units"


def test_an_adapters_name_in_the_engine_tells_its_weights(tmp_path: Path) -> None:
    """vLLM 0.32 finds keys and values again by an adapter's name and folder."""
    with lab(tmp_path, names=("logic",), adapters={"polite": "logic"}) as it:
        it.note()
        answers(it.experts, "polite")
        assert [body["model"] for body in it.asked] == [
            f"polite-{it.models['polite'].weights.version}"
        ]
