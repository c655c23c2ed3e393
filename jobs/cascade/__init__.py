"""A smaller model before the model of a task: its threshold is measured, certified, kept, and checked during runs."""
