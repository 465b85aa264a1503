"""Where tokens end in what was said, in bytes, whichever tokenizer and template they come from."""

from __future__ import annotations

import pytest

from experts.latent.net.member import Member
from experts.values import Message
from tests.experts.latent.teams import FOLDERS

SAID = ("Spell naïve backwards.", "It is evïan.", "And 23 🦊 more?")


@pytest.fixture(scope="module")
def frozen() -> dict[str, Member]:
    return {name: Member.load(name, folder) for name, folder in FOLDERS.items()}


def conversation(*said: str) -> list[Message]:
    """Turns of user and assistant, ended by the user."""
    return [
        Message(role="assistant" if i % 2 else "user", content=text) for i, text in enumerate(said)
    ]


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("said", [SAID[:1], SAID])
def test_tokens_end_where_their_text_does(
    name: str, said: tuple[str, ...], frozen: dict[str, Member]
) -> None:
    """Read from the left, what is decoded so far has as many bytes of what was said as the last
    token may know; half a character is none."""
    member = frozen[name]
    prompt, shared = member.prompt(conversation(*said)), "".join(said)
    assert prompt.n_bytes == len(shared.encode())
    for i, (hears, ends) in enumerate(zip(prompt.hears_before, prompt.ends_before, strict=True)):
        so_far = member.tokenizer.decode(prompt.before[: i + 1])
        whole = so_far.rstrip("\ufffd")
        known = shared.encode()[:hears].decode()  # raises where a character is cut
        assert "".join(whole.split()).endswith("".join(known.split()[-1:]))
        assert (ends > hears) == (so_far != whole)
    assert prompt.ends_before[-1] == prompt.hears_before[-1] == prompt.n_bytes


def test_each_letter_of_what_is_spelled_ends_at_its_own_byte(frozen: dict[str, Member]) -> None:
    prompt = frozen["people"].prompt(conversation("Who is Bém?"))
    assert prompt.hears_before[-12:] == [1, 2, 3, 4, 5, 6, 7, 8, 8, 10, 11, 12]
    assert prompt.ends_before[-12:] == [1, 2, 3, 4, 5, 6, 7, 8, 10, 10, 11, 12]
