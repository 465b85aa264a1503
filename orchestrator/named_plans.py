"""Plans that an owner names, against the pool and the fitted state that they are to run on.

What can be told without these is checked when the file is read (``strategies.check_settings``).
"""

from __future__ import annotations

from collections.abc import Mapping

from experts.errors import ConfigError, UnknownName, UserError
from experts.expert import Pool
from experts.values import Arm
from orchestrator.config import PolicySettings
from orchestrator.fitted import Fitted
from orchestrator.strategies import COMPOSE
from orchestrator.strategies.compose import composer_of
from orchestrator.strategies.settings import ARMS
from orchestrator.strategies.tools import check_tools
from routers.plans import Plan


def check_named_plans(
    policies: Mapping[str, PolicySettings], pool: Pool, fitted: Fitted | None
) -> None:
    """Raises ConfigError for an arm or a tool that nobody has, and, where something is fitted, for
    a sequence of ``compose`` that was not."""
    for name, policy in policies.items():
        if policy.plan is None:
            continue
        try:
            _check(Plan.parse(policy.plan), pool, fitted)
        except UserError as error:
            raise ConfigError(f"policies.{name}.plan: {error}") from None


def _check(plan: Plan, pool: Pool, fitted: Fitted | None) -> None:
    told = dict(plan.settings)
    for setting in ARMS:
        if not (named := str(told.get(setting, ""))):
            continue
        arm = Arm.parse(named)
        # A tool that answers no question by itself has no arms, and may be asked all the same.
        modes = [a.mode for a in pool.card(arm.expert).arms] or [Arm("").mode]
        if arm.mode not in modes:
            raise UnknownName(arm.mode, modes, what=f"mode of {arm.expert}")
    if plan.strategy == "tools":
        check_tools(str(told.get("by", "")), str(told.get("of", "")), pool)
    if plan.strategy == COMPOSE and fitted is not None:
        composer_of(fitted.composer).waves(int(told.get("sequence", 0)))
