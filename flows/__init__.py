"""Prefect flows: order, retries, schedules, artifacts."""
