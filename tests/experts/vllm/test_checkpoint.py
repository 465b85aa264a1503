"""Folders of models and adapters, checked by their headers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experts.errors import BadModel
from experts.vllm.slot import servable, servable_adapter
from tests.engines import adapter_folder, model_folder


def test_folders_are_checked_by_their_headers(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="There is no folder"):
        servable("it", tmp_path / "nowhere")
    with pytest.raises(BadModel, match=r"no config\.json"):
        servable("it", tmp_path)
    folder = model_folder(tmp_path, "logic", {})
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    with pytest.raises(BadModel, match="broken one"):
        servable("it", folder)
    weights.write_bytes(whole + b"more")
    with pytest.raises(BadModel, match="cut off or overwritten"):
        servable("it", folder)
    empty = b'{"__metadata__": {"format": "pt"}}'
    weights.write_bytes(len(empty).to_bytes(8, "little") + empty)
    with pytest.raises(BadModel, match="hold no tensors"):
        servable("it", folder)
    weights.unlink()
    with pytest.raises(BadModel, match=r"no \*\.safetensors"):
        servable("it", folder)


def test_an_adapter_must_be_of_its_base_and_of_a_rank_that_fits(tmp_path: Path) -> None:
    base = servable("base", model_folder(tmp_path, "logic", {}))
    fits = adapter_folder(tmp_path, "fits", base="logic", answers={})
    assert servable_adapter("it", fits, base, max_rank=16).base == "base"
    with pytest.raises(BadModel, match="takes up to 2"):
        servable_adapter("it", fits, base, max_rank=2)
    wrong = adapter_folder(tmp_path, "wrong", base="logic", width=64, answers={})
    with pytest.raises(BadModel, match=r"64 where .* has 96"):
        servable_adapter("it", wrong, base, max_rank=16)
    with pytest.raises(BadModel, match="no adapter_config"):
        servable_adapter("it", base.weights.folder, base, max_rank=16)


def test_families_are_architectures(tmp_path: Path) -> None:
    made = {n: servable(n, model_folder(tmp_path, n, {})) for n in ("logic", "units", "words")}
    assert made["logic"].family == made["units"].family != made["words"].family


@pytest.mark.parametrize(
    ("key", "is_same"), [("eos_token_id", True), ("_name_or_path", True), ("rope_theta", False)]
)
def test_a_sibling_that_ends_with_another_token_is_of_the_family(
    tmp_path: Path, key: str, is_same: bool
) -> None:
    base, sibling = (model_folder(tmp_path, n, {}) for n in ("logic", "units"))
    config = json.loads((sibling / "config.json").read_text())
    (sibling / "config.json").write_text(json.dumps(config | {key: 7}))
    assert (servable("a", base).family == servable("b", sibling).family) is is_same
