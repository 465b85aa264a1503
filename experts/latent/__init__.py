"""Latent experts: frozen language models that answer as one by sharing what they think.

A *primary* speaks; its *peers* read the same question, and a small trained *head* puts what they
think of it into the primary. Three *forms* of exchange: soft prefix, cache fusion, interaction
layers (docs/latent.md). The parts that need torch are in ``net`` and ``training``, imported where
they are used; what is here is light.
"""

BLANK = "<|blank|>"
"""A token at which a member thinks without speaking, if its vocabulary has it."""
