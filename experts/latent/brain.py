"""Several frozen models and a head, as one brain of an in-process expert."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experts.cards import Prices
from experts.latent.card import read_card
from experts.local.brain import Put, import_model_code
from experts.local.decode import Token, decode
from experts.values import Call, Sampling, ToolCall, Usage

if TYPE_CHECKING:
    from experts.latent.net.prompts import Prompt
    from experts.latent.net.router import Route
    from experts.latent.net.team import Team


@dataclass(frozen=True, slots=True)
class _Read:
    """A conversation as the members of its route read it."""

    route: Route
    prompts: Mapping[str, Prompt]


class LatentBrain:
    """Every question takes its own route; those of one route are decoded together."""

    def __init__(
        self,
        head: Path,
        folders: Mapping[str, Path],
        prices: Mapping[str, Prices],
        *,
        device: str = "cpu",
    ) -> None:
        """folders, prices: of the members, by name. Nothing is read yet."""
        self._head, self._folders, self._prices = head, dict(folders), dict(prices)
        self._device = device
        self._team: Any = None

    @property
    def team(self) -> Team:
        """Once it is loaded."""
        team: Team = self._team
        return team

    def prepare(self) -> None:
        import experts.latent.net.team  # noqa: F401

        for name in read_card(self._head).names:
            if name in self._folders:  # the head's own check names what is missing
                import_model_code(self._folders[name])

    def load(self) -> None:
        from experts.latent.net.team import Team

        self._team = Team.load(self._head, self._folders, device=self._device)

    def put(self, call: Call) -> Put:
        team = self.team
        route = team.route(call.messages)
        names = (route.primary, *route.peers)
        prompts = {name: team.members[name].prompt(call.messages) for name in names}
        primary = team.members[route.primary]
        n_slots = team.card.n_slots
        n_primary = len(prompts[route.primary].ids) + n_slots * len(route.peers)
        n_read = {p: len(prompts[p].ids) + n_slots - 1 for p in route.peers}
        n_read[route.primary] = n_primary
        read_usd = sum(self._read_usd(member, n) for member, n in n_read.items())
        read_usd += sum(self._thinking_more_usd(peer) for peer in route.peers)

        def cost_usd(said: Sequence[int]) -> float:
            spoken = self._prices[route.primary].cost_usd(Usage(output_tokens=len(said)))
            along = team.read_along(route, said)
            # Who is full hears no more.
            room = {p: team.members[p].context_tokens - len(prompts[p].ids) for p in along}
            heard_usd = sum(self._read_usd(p, min(n, room[p])) for p, n in along.items())
            return read_usd + spoken + heard_usd

        return Put(
            call=call,
            prompt=_Read(route, prompts),
            n_context=max(n_read.values()),
            n_read=sum(n_read.values()),
            cost_usd=cost_usd,
            detokenize=primary.tokenizer.decode,
            end_ids=primary.tokenizer.end_ids,
        )

    def decode(self, puts: Sequence[Put], samplings: Sequence[Sampling]) -> Generator[list[Token]]:
        groups: dict[Route, list[int]] = {}
        for i, put in enumerate(puts):
            groups.setdefault(put.prompt.route, []).append(i)
        for route, rows in groups.items():
            prompts = {
                name: [puts[i].prompt.prompts[name] for i in rows]
                for name in (route.primary, *route.peers)
            }
            steps = self.team.steps(route, prompts)
            ends = self.team.members[route.primary].tokenizer.end_ids
            for step in decode(steps, [samplings[i] for i in rows], end_ids=ends):
                yield [token.of_row(rows[token.row]) for token in step]

    def _read_usd(self, member: str, n_tokens: int) -> float:
        return self._prices[member].cost_usd(Usage(input_tokens=n_tokens), n_calls=0)

    def _thinking_more_usd(self, peer: str) -> float:
        """What speaking its thoughts costs more than reading as many tokens at once."""
        member, n_spoken = self.team.members[peer], self.team.card.n_slots - 1
        if member.blank_id is not None:
            return 0.0
        spoken = self._prices[peer].cost_usd(Usage(output_tokens=n_spoken), n_calls=0)
        return spoken - self._read_usd(peer, n_spoken)

    def read(self, text: str, call: Call) -> tuple[str, tuple[ToolCall, ...]]:
        return text, ()
