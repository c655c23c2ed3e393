"""Beam pipelines and what surrounds them: a spec in, a report out."""

import logging

# When it is imported, Beam warns of the lack of a Google client that only BigQuery needs.
logging.getLogger().addFilter(lambda record: not str(record.msg).startswith("apitools not found"))
