"""Whole experts on vLLM: engines as processes of their own, swapped by the cheapest way."""
