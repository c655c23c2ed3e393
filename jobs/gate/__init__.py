"""The gate: whether a challenger replaces the champion. Pure functions over numbers; nothing is read or written."""
