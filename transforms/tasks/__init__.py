"""One file per task; adding a file here adds a task (see transforms/contract.py)."""
