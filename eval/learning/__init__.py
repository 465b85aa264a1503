"""Learning from use, judged by simulation on recorded outcomes."""
