"""Reads a job file, runs the job with Apache Beam, writes the report."""

import logging

# On import Beam warns that a Google client is missing, which only BigQuery needs.
logging.getLogger().addFilter(lambda record: not str(record.msg).startswith("apitools not found"))

# torch and transformers create objects by the million while they are imported, and none of them is garbage: with
# Python's default of 700 the collector takes a quarter of that time, and a tenth of a run without a model.
GC_THRESHOLD = (50_000, 20, 100)
