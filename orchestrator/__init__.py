"""The orchestrator: strategies, drivers, ledger, and the doors: REST and command line."""
