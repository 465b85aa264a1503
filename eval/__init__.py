"""Evaluation: questions, graders, cost-of-pass, baselines, demonstrations. Sees all other rooms."""
