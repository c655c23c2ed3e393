"""One file a task; adding a file here adds a task (see transforms/contract.py)."""
