"""Durable runs: a question whose answering may be killed, may wait for people, and is paid once.

The ledger is the truth about what was asked and paid, the desk about what people said, LangGraph's
checkpoint about where the strategy stands. Only the first two cannot be made again.
"""
