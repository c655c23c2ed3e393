"""Names of all internal files of a sink; they are below `_nightscribe/`."""

from __future__ import annotations

FOLDER = "_nightscribe"

# Finished shards: a few files of JSON lines, see `jobs.store.log`.
LEDGER = f"{FOLDER}/ledger"
# Finished and not published yet: entries, and their files under the final names with one more ending, so that a reader
# of `**/*.parquet` does not read them as rows.
STAGED_LEDGER = f"{FOLDER}/staged/ledger"
STAGED_FILES = f"{FOLDER}/staged/files"
STAGED_ENDING = ".staged"
# Columns and ranges of source files that were read before, see `jobs.source.layouts`.
LAYOUTS = f"{FOLDER}/layouts"
# The steps of a commit that has begun.
COMMIT = f"{FOLDER}/commit.json"
# The job that the sink belongs to.
OWNER = f"{FOLDER}/owner.json"
# A sink that is a table: its id, the transaction of a commit that has begun, and a mark for each attempt to write the
# part files of one.
TABLE = f"{FOLDER}/table.json"
TABLE_COMMIT = f"{FOLDER}/table_commit.json"
PACKS = f"{FOLDER}/packs"
# A dataset of the Hub: its list of files when this machine last saw it, and the run of the ledger entries that were
# taken from there.
REPOSITORY = f"{FOLDER}/repository.jsonl"
RESTORED = f"{FOLDER}/restored.json"
PLANS = f"{FOLDER}/plans"
REPORTS = f"{FOLDER}/reports"
# Nights held against `sink.audit`, and who published them in spite of it.
AUDITS = f"{FOLDER}/audits"
# Parts of a plan that other machines execute: their shards, and what their workers say of them.
PARTS = f"{FOLDER}/parts"
# Who did what when in such a run.
TIMELINES = f"{FOLDER}/timelines"
PROGRESS = f"{FOLDER}/progress"
AGREEMENT = f"{FOLDER}/agreement"
# Thresholds of `first`, and marks of those that rows of a run have refuted.
FIRST = f"{FOLDER}/first"
# Rows drawn for review, until their run is committed.
REVIEW = f"{FOLDER}/review"
# A local sink: the file lock, and who holds it.
LOCK = f"{FOLDER}/lock"
HOLDER = f"{FOLDER}/lock.json"
# An object store: one small file for each holder so far, named by its number.
LEASES = f"{FOLDER}/leases"
# Held for the milliseconds of a conditional write to a local sink.
CONDITIONAL_LOCK = f"{FOLDER}/conditional.lock"
TEMPORARY = f"{FOLDER}/tmp"

# Rejected rows are in their own folder, below it in the partition folders of their source. They are Parquet with an
# ending of their own, because DuckDB and polars also read `**/*.parquet` in folders that begin with an underscore.
REJECTED = "_rejected"
REJECTED_ENDING = ".rejected"
STAGED_REJECTED = f"{STAGED_FILES}/{REJECTED}"
