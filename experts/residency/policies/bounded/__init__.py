"""Our policy: grouping that knows what a switch costs, with a bound on waiting. See ``policy``."""

from experts.residency.policies.bounded.policy import BoundedGrouping

__all__ = ["BoundedGrouping"]
