"""The bundled experts judged: the demonstration and its baselines, the examination."""
