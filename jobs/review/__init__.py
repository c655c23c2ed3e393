"""Rows of a night that a person is asked to label."""
