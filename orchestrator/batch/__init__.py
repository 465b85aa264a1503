"""Offline batches: a file of queries becomes a file of answers, each answered exactly once.

The answers file is the truth about what is answered, the ledger about what is paid. A process may
be killed at any moment: the next one repairs a torn last line, asks only what has no answer, and
recalls from the ledger the calls that were paid for it.
"""
