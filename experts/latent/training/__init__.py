"""Training of latent heads, with their members frozen. Needs torch."""
