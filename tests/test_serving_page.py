"""docs/serving.md says what is so: every field with its default, and sums that come out.

Its commands are typed in tests/vllm/test_bundled_on_vllm.py, on a real vLLM."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from orchestrator.config import SlotSection, VLLMExpertSettings, VLLMSettings, load_config

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in row.split("|")[1:-1]]
    for row in PAGE.splitlines()
    if row.startswith("|")
]
DEFAULTS = {row[0].strip("`"): row[1].strip("`") for row in ROWS}
"""As the page says them; a field that is in several tables has the same in all."""


@pytest.mark.parametrize("section", [VLLMExpertSettings, VLLMSettings, SlotSection])
def test_every_field_is_there_with_its_default(section: type[BaseModel]) -> None:
    for name, field in section.model_fields.items():
        said = DEFAULTS["name" if name == "kind" else name]
        if field.is_required():
            assert said == "required", name
        elif isinstance(field.default, bool | int | float):
            assert float(said.replace("true", "1").replace("false", "0")) == field.default, name
        elif isinstance(field.default, list | dict) and not field.default:
            assert said == str(field.default), name


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", PAGE + README, re.S))
def test_every_configuration_is_one(text: str, tmp_path: Path) -> None:
    path = tmp_path / "conclave.yaml"
    path.write_text(text)
    assert load_config(path).vllm.slots


# Dimensions from each model's config.json.
@pytest.mark.parametrize(
    ("model", "width", "layers", "heads", "kv_heads", "neurons", "words", "has_bias"),
    [
        ("Qwen2.5-7B", 3584, 28, 28, 4, 18944, 152064, True),
        ("Llama-3.1-8B", 4096, 32, 32, 8, 14336, 128256, False),
        ("Mistral-7B-v0.3", 4096, 32, 32, 8, 14336, 32768, False),
    ],
)
def test_the_sums_come_out(
    model: str,
    width: int,
    layers: int,
    heads: int,
    kv_heads: int,
    neurons: int,
    words: int,
    has_bias: bool,
) -> None:
    size = width // heads
    queries, keys = heads * size, kv_heads * size
    layer = 2 * width * queries + 2 * width * keys + 3 * width * neurons + 2 * width
    layer += (queries + 2 * keys) * has_bias
    parameters = layers * layer + width + 2 * words * width
    token_bytes = 2 * layers * kv_heads * size * 2
    [row] = [r for r in ROWS if r[0].startswith(f"[{model}]")]
    assert row[1:] == [
        f"{parameters / 1e9:.2f} G",
        f"{2 * parameters / 1e9:.1f} GB",
        f"{layers}, {kv_heads}, {size}",
        f"{token_bytes:,} B",
        f"{8192 * token_bytes / 1e9:.2f} GB",
    ]
    if column := {"Qwen2.5-7B": 3, "Llama-3.1-8B": 4}.get(model):
        check_what_is_left(column, 2 * parameters, token_bytes)


def check_what_is_left(column: int, weights_bytes: int, token_bytes: int) -> None:
    """For keys and values, by GPU and share."""
    gpu_gb = 0.0
    n_rows = 0
    for row in ROWS:
        if len(row) < 5 or not re.match(r"0\.\d\d = ", row[2]):
            continue
        if found := re.search(r"\(([\d.]+) x 10", row[0]):
            gpu_gb = float(found[1])
        step_gb = 3.0 if gpu_gb > 70 else 1.5
        left_gb = gpu_gb * float(row[2][:4]) - weights_bytes / 1e9 - step_gb
        tokens = left_gb * 1e9 / token_bytes
        said = re.match(r"([\d.]+) GB, ([\d.]+) (k|M)", row[column])
        assert said, row
        assert float(said[1]) == pytest.approx(left_gb, rel=0.03)
        assert float(said[2]) * {"k": 1e3, "M": 1e6}[said[3]] == pytest.approx(tokens, rel=0.04)
        n_rows += 1
    assert n_rows == 5


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        if not target.startswith("http"):
            assert (ROOT / "docs" / target).exists(), target
