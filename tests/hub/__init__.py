"""A Hub on this machine for tests: its HTTP API as far as the clients use it, and faults on demand."""
