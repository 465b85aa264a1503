"""Phase one: what a peer thinks is to do to the primary what its words would do.

Teacher and pupil are both the frozen primary: once with the peer's own answer in the slots as
words, once with what the head makes of the peer's states. No right answer is needed, so every
question teaches, whoever it is for.
"""

from __future__ import annotations

from random import Random

import torch

from experts.latent.net.team import Team
from experts.latent.plan import TrainingPlan
from experts.latent.training.examples import Examples


def teaching_loss(team: Team, examples: Examples, plan: TrainingPlan, step: int) -> torch.Tensor:
    """Of one batch of one link; links take turns."""
    links = team.form.links
    link = links[step % len(links)]
    rng = Random(f"teach/{plan.seed}/{step}")
    rows = [rng.randrange(len(examples)) for _ in range(plan.n_rows_taught)]
    asked = examples.asked(link.primary, [link.peer], rows, with_answers=team.form.reads_along)
    told = asked.told(examples.told(link.primary, [link.peer], rows))
    thoughts = examples.thoughts([link.peer], rows)
    return team.form.teach(team.members[link.primary], asked, thoughts, told)
