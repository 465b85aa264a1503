"""A broken file of weights is refused in words, and the net stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from experts.weights_file import fill, only

Tensors = dict[str, torch.Tensor]


def tensors() -> Tensors:
    return {"weight": torch.ones(2, 3), "bias": torch.ones(2)}


def written(told: Tensors) -> bytes:
    from safetensors.torch import save

    return save(told)


def test_weights_that_fit_are_taken(tmp_path: Path) -> None:
    net = nn.Linear(3, 2)
    save_file(tensors(), tmp_path / "w")
    fill(net, tmp_path / "w")
    assert torch.equal(net.weight, torch.ones(2, 3))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda: b"", "not whole, or no safetensors file"),
        (lambda: written(tensors())[:-3], "not whole, or no safetensors file"),
        (lambda: written({"weight": torch.ones(2, 3)}), "lacks bias"),
        (lambda: written(tensors() | {"x": torch.ones(1)}), "does not belong there: x"),
        (lambda: written(tensors() | {"bias": torch.ones(3)}), r"shape \(3,\); it must be \(2,\)"),
        (lambda: written(tensors() | {"bias": torch.tensor([1.0, torch.nan])}), "NaN"),
    ],
)
def test_weights_that_do_not_are_refused(
    content: Callable[[], bytes], says: str, tmp_path: Path
) -> None:
    net = nn.Linear(3, 2)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    (tmp_path / "w").write_bytes(content())
    with pytest.raises(ValueError, match=says):
        fill(net, tmp_path / "w")
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There is no"):
        fill(nn.Linear(3, 2), tmp_path / "w")


@dataclass
class Card:
    name: str
    size: int = 3


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ([1], "list where an object"),
        ({"size": 2}, "lacks name"),
        ({"name": "a", "sise": 2}, "does not belong there: sise"),
    ],
)
def test_a_card_that_is_none(told: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        only(told, Card)


def test_a_card_may_leave_out_what_has_a_default() -> None:
    assert Card(**only({"name": "a"}, Card)) == Card("a")
