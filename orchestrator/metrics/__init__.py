"""What a running server counts, and how it tells Prometheus.

``meters`` are plain numbers that requests add to; ``exposition`` makes text of them, with what is
read from pool, learner and ledger when somebody asks.
"""
