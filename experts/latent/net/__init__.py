"""Nets of latent experts: frozen members, the forms of exchange, the router. Needs torch."""
