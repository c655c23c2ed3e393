"""Jobs as Prefect flows: retries, schedules, progress, reports."""

import os

# Progress bars of libraries would fill the log.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
# Its warnings show addresses of files in the storage of the Hub that anybody can read for an hour.
os.environ.setdefault("HF_HUB_VERBOSITY", "error")
