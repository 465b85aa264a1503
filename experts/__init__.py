"""Experts: whatever can answer, described by cards and called one way. Imports nothing of ours."""
