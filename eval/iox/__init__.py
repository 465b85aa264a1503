"""The wireless Internet of Experts examined: classifiers, choice of tools, and what tools are worth
to a language model."""
