"""The command line: a module a command; ``command`` puts them together.

Nothing is put together here: commands of ``eval`` import ``options`` from this package, and would
find themselves loaded from their own middle.
"""

from __future__ import annotations


def main() -> None:
    """The ``conclave`` command."""
    from orchestrator.cli import command

    command.main()
