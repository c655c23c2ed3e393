"""Models and tasks: a RecordBatch in, one more column out. No Beam, no Prefect, no network."""
