"""A person as an expert: questions wait on a desk until somebody answers, or their time is up."""
