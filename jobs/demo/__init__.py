"""The demo: a customer-review lake with gold labels, and tiny models trained on part of it."""
