"""Reads a job file, runs the job with Apache Beam, writes the report."""

import logging

# On import Beam warns that a Google client is missing, which only BigQuery needs.
logging.getLogger().addFilter(lambda record: not str(record.msg).startswith("apitools not found"))
