"""The laboratory: generated questions, and the training of the bundled experts on them."""
