"""Skills judged and shown: annotators compared, and the map of who is good at what."""
