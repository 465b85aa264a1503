"""Widened checkpoints compute what they computed before."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from experts.bundled import FOLDER
from experts.errors import ConfigError
from experts.vllm.checkpoint import read_checkpoint
from experts.vllm.widening import Shape, common_shape, widen

NAMES = ("arithmetic", "generalist", "words")


@pytest.fixture(scope="module")
def shape() -> Shape:
    return common_shape([FOLDER / name for name in NAMES])


@pytest.mark.parametrize("name", ["generalist", "words"])
def test_another_shape_with_the_same_probabilities(name: str, shape: Shape, tmp_path: Path) -> None:
    """Fewer words, and for the generalist a smaller width, fewer heads and neurons; one layer more
    for all."""
    import torch
    from transformers import AutoModelForCausalLM

    widen(FOLDER / name, replace(shape, layers=shape.layers + 1), tmp_path / name)
    models = [
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        for folder in (FOLDER / name, tmp_path / name)
    ]
    n_words = Shape.of(models[0].config.to_dict()).words
    ids = torch.randint(n_words, (4, 50), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before, after = (model(ids).logits.log_softmax(-1) for model in models)
    assert (before - after[..., :n_words]).abs().max() < 1e-3
    # It cannot say a word that it does not have.
    assert after[..., n_words:].max() < -1000


def test_widened_models_are_one_family(shape: Shape, tmp_path: Path) -> None:
    for name in NAMES:
        widen(FOLDER / name, shape, tmp_path / name)
    assert len({read_checkpoint(FOLDER / name).family for name in NAMES}) == 3
    assert len({read_checkpoint(tmp_path / name).family for name in NAMES}) == 1


def test_what_cannot_share_a_shape_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "it"
    shutil.copytree(FOLDER / "words", folder)
    config = json.loads((folder / "config.json").read_text())
    for change, complaint in [
        ({"architectures": ["MistralForCausalLM"]}, "only LlamaForCausalLM"),
        ({"mlp_bias": True}, "biases"),
        ({"head_dim": 16}, "head_dim is"),
        ({"num_key_value_heads": 1}, "ratios"),
    ]:
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ConfigError, match=complaint):
            common_shape([FOLDER / "words", folder])
