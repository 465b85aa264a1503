"""Outcomes of many arms on many questions: one format, its pools, splits and sources."""
