"""The audit of a night before its rows are published: what is measured, the record of it, the approval of a person."""
