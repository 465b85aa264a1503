"""The answer to a query, and the way it came."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from experts.values import UNASKED, Arm, Completion, ToolCall

if TYPE_CHECKING:
    from orchestrator.decision import Decision


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One answer made of zero or more completions."""

    text: str
    answer: str
    """The final answer in the text, as compared and graded."""
    p_correct: float | None
    """The strategy's own estimate that it is right; None where it cannot tell."""
    contributors: tuple[Arm, ...]
    """Arms whose completions say this answer."""
    completions: tuple[Completion, ...]
    """Every call that was made for it, failed ones too, in order."""
    tool_calls: tuple[ToolCall, ...] = ()
    """What the caller is to call before the conversation goes on."""
    abstained: bool = False
    """Nothing was answered: the query belongs to the owner's fallback."""
    broken_off: str | None = None
    """Why the text ends before its end; None when it is whole."""
    over_budget: bool = False
    """Whoever pays had not enough left for a call."""
    notes: tuple[str, ...] = ()
    """What a reader of the answer should know: experts that failed, limits that were hit."""
    decision: Decision | None = None
    """What was decided on the way and carried out, where that is not what was decided first."""

    @property
    def cost_usd(self) -> float:
        """Dollars of all calls; what the router itself spent is in the decision."""
        return sum(c.cost_usd for c in self.completions)

    @property
    def succeeded(self) -> bool:
        """There is a text to show."""
        return bool(self.contributors)

    def with_notes(self, *notes: str) -> Answer:
        """The same answer with these notes after its own."""
        return replace(self, notes=tuple(dict.fromkeys((*self.notes, *notes))))

    def with_history(self, completions: tuple[Completion, ...]) -> Answer:
        """The same answer with all calls that led to it, and a note for each that failed, for each
        that another expert answered, and for each limit that was hit. Calls that a limit refused
        were never made, so they are left out.
        """
        if all(c.ok and c.stood_in_for is None for c in completions):  # most: nothing to tell
            own = self.notes if completions or self.abstained else ()
            return replace(self, completions=completions, notes=tuple(dict.fromkeys(own)))
        made = tuple(c for c in completions if c.error_code not in UNASKED)
        failures = [f"{c.call.arm} failed: {c.error}" for c in made if not c.ok]
        stand_ins = [
            f"{c.call.arm} stood in for {c.stood_in_for}, which was not loaded"
            for c in made
            if c.stood_in_for
        ]
        limits = [str(c.error) for c in completions if c.error_code in UNASKED]
        # They speak of experts that were asked, or of why none was.
        own = self.notes if made or self.abstained else ()
        notes = tuple(dict.fromkeys((*own, *stand_ins, *failures, *limits)))
        over_budget = any(c.error_code == "over_budget" for c in completions)
        return replace(self, completions=made, notes=notes, over_budget=over_budget)


def no_answer(note: str, *, abstained: bool = False) -> Answer:
    """Nothing to show: abstained on purpose, or every expert failed."""
    return Answer(
        text="",
        answer="",
        p_correct=0.0,
        contributors=(),
        completions=(),
        abstained=abstained,
        notes=(note,),
    )
