"""MiniLM in eight bits says what MiniLM in single precision says, and needs no torch for it."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from skills import minilm
from skills.embedders import MiniLMEmbedder, TorchMiniLMEmbedder
from skills.errors import SkillsError
from skills.minilm import MIN_COSINE, Encoder, load_calibration
from skills.minilm_calibration import CALIBRATION, PROOF, calibration

TEXTS = [
    "",
    " ",
    "?",
    "What is the capital of France?",
    "If 3x + 7 = 22, what is x? Answer with a number only.",
    "def quicksort(a):\n    if len(a) < 2:\n        return a\n    pivot = a[0]",
    "Combien de départements compte la France ?",
    "中国有多少个省级行政区",
    "ما هي عاصمة مصر",
    "🦜🦜🦜 which bird is this? 🙂",
    "\\int_0^1 x^2 \\, dx = \\frac{1}{3}",
    "supercalifragilisticexpialidocious " * 3,
    "The meeting was moved. " * 12,
    "word " * 5000,
    "a\x00b\ttab\u200dzero",
]


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    return TorchMiniLMEmbedder().embed(TEXTS)


@pytest.mark.parametrize(("precision", "least"), [("int8", MIN_COSINE), ("single", 0.99999)])
def test_it_agrees_with_torch(
    precision: minilm.Precision, least: float, reference: np.ndarray
) -> None:
    cosines = (MiniLMEmbedder(precision=precision).embed(TEXTS) * reference).sum(axis=1)
    assert cosines.min() >= least, dict(zip(TEXTS, cosines.tolist(), strict=True))


def test_texts_of_the_test_are_new_to_it() -> None:
    assert not set(TEXTS) - {""} & {*CALIBRATION, *PROOF}


def test_the_shipped_calibration_is_what_its_script_makes() -> None:
    made = calibration()
    reach, texts, expected = load_calibration()
    assert texts == list(PROOF)
    assert ((made["expected"] * expected).sum(axis=1) > 0.9999).all()
    assert set(made) == {*reach, "texts", "expected"}
    for name, values in reach.items():
        np.testing.assert_allclose(made[name].astype(np.float32), values, rtol=0.02, atol=0.01)


def test_eight_bits_that_are_wrong_here_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Saturating(Encoder):
        """Adds up to what it should in single precision only."""

        def __init__(self, weights: minilm.Weights, graph: bytes) -> None:
            super().__init__(weights, graph)
            self.is_int8 = len(graph) < 20e6

        def embed(self, text: str) -> np.ndarray:
            vector = super().embed(text)
            return np.roll(vector, 1) if self.is_int8 else vector

    expected = MiniLMEmbedder(precision="single").embed(TEXTS[:4])
    monkeypatch.setattr(minilm, "Encoder", Saturating)
    np.testing.assert_allclose(MiniLMEmbedder().embed(TEXTS[:4]), expected, atol=1e-6)


def test_many_threads_agree_with_one() -> None:
    embedder = MiniLMEmbedder()
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda t: embedder.embed([t])[0], TEXTS))
    np.testing.assert_array_equal(together, MiniLMEmbedder(n_threads=1).embed(TEXTS))


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    monkeypatch.setattr(minilm, "minilm_folder", lambda: tmp_path)
    with pytest.raises(SkillsError, match="other weights"):
        MiniLMEmbedder().embed(["hello"])


def test_a_decision_needs_no_torch() -> None:
    code = (
        "import sys; from skills.embedders import make_embedder; "
        "make_embedder('minilm').embed(['What is 2 + 2?']); "
        "print({'torch', 'transformers', 'onnx'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
