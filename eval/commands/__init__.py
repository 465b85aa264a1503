"""Commands of evaluation, found by the entry-point group ``conclave.commands``."""
