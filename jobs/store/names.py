"""Names of everything that a sink keeps beside its rows, in one place: all of it lies below `_nightscribe/`."""

from __future__ import annotations

FOLDER = "_nightscribe"

# What is done: one small JSON file a shard.
LEDGER = f"{FOLDER}/ledger"
# What is done and not published yet: entries, and the files that they stand for under their later names and one more
# ending, so that a reader of `**/*.parquet` does not take them for rows.
STAGED_LEDGER = f"{FOLDER}/staged/ledger"
STAGED_FILES = f"{FOLDER}/staged/files"
STAGED_ENDING = ".staged"
# What a commit that has begun will do.
COMMIT = f"{FOLDER}/commit.json"
# The job that the sink belongs to.
OWNER = f"{FOLDER}/owner.json"
PLANS = f"{FOLDER}/plans"
REPORTS = f"{FOLDER}/reports"
PROGRESS = f"{FOLDER}/progress"
AGREEMENT = f"{FOLDER}/agreement"
# A local sink: the file lock, and who holds it.
LOCK = f"{FOLDER}/lock"
HOLDER = f"{FOLDER}/lock.json"
# An object store: one small file for each holder so far, named by its number.
LEASES = f"{FOLDER}/leases"
# Held for the milliseconds of a conditional write to a local sink.
CONDITIONAL_LOCK = f"{FOLDER}/conditional.lock"
TEMPORARY = f"{FOLDER}/tmp"

# Rejected rows lie apart, in the folders of their source files. They are Parquet and end differently: DuckDB and
# polars look into folders whose names begin with an underscore, and would read `**/*.parquet` there as rows.
REJECTED = "_rejected"
REJECTED_ENDING = ".rejected"
STAGED_REJECTED = f"{STAGED_FILES}/{REJECTED}"
