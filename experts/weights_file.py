"""What was trained here, read again: weights into the net that they must fit, and their card.

Files are copied halfway, belong to another version, or come of a training that went astray; a net
that took them all the same would talk nonsense, and nobody would know why.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from _typeshed import DataclassInstance
    from torch import nn

_SHOWN = 2


def fill(net: nn.Module, path: Path, *, device: str = "cpu") -> None:
    """Raises ValueError, which says what is wrong with the file, and leaves the net as it was."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path, device=device)
    except FileNotFoundError:
        raise ValueError(f"There is no {path}.") from None
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{path} is not whole, or no safetensors file: {error}.") from None
    if problem := _misfit(net.state_dict(), tensors):
        raise ValueError(f"{path} {problem}.")
    net.load_state_dict(tensors)


def only(told: object, kind: type[DataclassInstance]) -> dict[str, Any]:
    """What a card's JSON says, if it is what a dataclass takes. Raises ValueError in words."""
    if not isinstance(told, dict):
        raise ValueError(f"{type(told).__name__} where an object with keys must be")
    known = {f.name: f for f in fields(kind)}
    needed = {n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING}
    if missing := needed - told.keys():
        raise ValueError(f"it lacks {_some(missing)}")
    if unknown := told.keys() - known.keys():
        raise ValueError(f"it holds what does not belong there: {_some(unknown)}")
    return told


def _misfit(wanted: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Why they are not what a net wants, in words."""
    if missing := wanted.keys() - tensors.keys():
        return f"lacks {_some(missing)}"
    if unknown := tensors.keys() - wanted.keys():
        return f"holds what does not belong there: {_some(unknown)}"
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            shapes = tuple(tensor.shape), tuple(wanted[name].shape)
            return f"has {name} of shape {shapes[0]}; it must be {shapes[1]}"
        if not tensor.isfinite().all():
            return f"has numbers in {name} that are none (NaN or infinity)"
    return None


def _some(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN])
    n_more = len(names) - _SHOWN
    return f"{shown} and {n_more} more" if n_more > 0 else shown
