"""Where enriched rows go: part files, rejected rows, and the ledger of what is done."""
