"""Recording: every arm asked every question, answers graded, all of it in the ledger."""
