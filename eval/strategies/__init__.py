"""Strategies judged on recorded outcomes: the bodies that run live, answered from a matrix."""
