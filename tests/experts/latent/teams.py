"""Teams of the bundled members, with heads that are opened and not trained: what they say is noise,
how they say it is the same as with any other weights."""

from __future__ import annotations

from pathlib import Path

import torch

from experts.bundled import FOLDER, LATENT_MEMBERS
from experts.latent.card import FormName, card_of
from experts.latent.net.member import Member
from experts.latent.net.team import Team

FOLDERS: dict[str, Path] = {name: FOLDER / name for name in LATENT_MEMBERS}


def members(dtype: torch.dtype = torch.float32) -> dict[str, Member]:
    return {name: Member.load(name, folder, dtype=dtype) for name, folder in FOLDERS.items()}


def untrained(form: FormName, of: dict[str, Member] | None = None, *, top_k: int = 2) -> Team:
    return Team(card_of(form, FOLDERS, n_slots=12, top_k=top_k), of or members())


def noisy(form: FormName, of: dict[str, Member] | None = None) -> Team:
    """Every weight of the form moved at random: each path of it does something."""
    team = untrained(form, of)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in team.form.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    team.head.eval()
    return team
