"""Subcommands of `nightscribe` with actions of their own; what they need is imported when one is called."""
