"""Prefect flows: order, retries, schedules, artifacts."""

import os

# Bars of libraries do not belong in a log.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
