"""Answer scoring: P(right) of an expert's answer, read off its own states while it gave it."""
