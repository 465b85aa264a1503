"""The bundled experts: what they are made of, and that nobody knows another's facts."""

from __future__ import annotations

import json
from pathlib import Path

from experts.bundled import FOLDER, bundled_models, list_price

SIZE_LIMIT_BYTES = 20_000_000


def config(name: str) -> dict[str, object]:
    return json.loads((FOLDER / name / "config.json").read_text(encoding="utf-8"))


def test_seven_specialists_and_a_generalist() -> None:
    models = bundled_models()
    specialists = [m for m in models if len(m.categories) == 1]
    assert len(specialists) == 7
    assert len({m.categories for m in specialists}) == 7
    assert [m.name for m in models if len(m.categories) == 7] == ["generalist"]


def test_real_causal_models_in_half_precision() -> None:
    from safetensors import safe_open

    for model in bundled_models():
        assert config(model.name)["model_type"] == "llama"
        with safe_open(FOLDER / model.name / "model.safetensors", "numpy") as weights:
            arrays = [weights.get_tensor(k) for k in weights.keys()]  # noqa: SIM118
        assert {str(a.dtype) for a in arrays} == {"float16"}
        assert sum(a.size for a in arrays) == model.parameters


def test_two_tokenizers_two_widths_and_small_in_git() -> None:
    names = [m.name for m in bundled_models()]
    assert len({config(n)["vocab_size"] for n in names}) >= 2
    assert len({config(n)["hidden_size"] for n in names}) >= 2
    size = sum(p.stat().st_size for p in Path(FOLDER).rglob("*") if p.is_file())
    assert size <= SIZE_LIMIT_BYTES


def test_prices_grow_with_size() -> None:
    by_size = sorted(bundled_models(), key=lambda m: m.parameters)
    prices = [list_price(m.parameters, 0.0).input_usd_per_mtok for m in by_size]
    assert prices == sorted(prices)
    assert prices[0] > 0
