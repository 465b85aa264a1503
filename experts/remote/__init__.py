"""Experts behind somebody's API: OpenAI's protocol over HTTP, or whatever LiteLLM speaks.

``expert`` keeps the Expert protocol (batches, deadlines, retries, the bill) for both; a ``wire`` is
one attempt at one call, and what differs between the two kinds.
"""
