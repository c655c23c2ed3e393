"""The columns that a drawn row has beside those of its part file, and where the files of a review folder are.

draws/JOB/RUN.parquet                the rows that were drawn from a run
draws/JOB/RUN.labelstudio.json       the same for import into Label Studio; draws/JOB/labelstudio.xml is its interface
draws/JOB/RUN.argilla.json           the same for import into Argilla; draws/JOB/argilla-settings.json are its settings
draws/JOB/RUN.jsonl                  the same as JSON lines
labels/JOB/RUN.parquet               those that people have labelled, with the truth in a column of its own
_nightscribe/scores/JOB/RUN.parquet  the model's score of every row from which they were drawn
_nightscribe/answers/JOB/RUN.json    the latest answer of each person about each row
_nightscribe/accuracy/JOB/RUN.json   how good the run was, from the labels
"""

from __future__ import annotations

import pyarrow as pa

DRAWS = "draws"
LABELS = "labels"
SCORES = "_nightscribe/scores"

KEY = "review_key"
DRAWN = "review_drawn"
UNIFORM, UNCERTAIN, DIFFERENCE = "uniform", "uncertain", "difference"

# Every column is there in every draw, so that files of several nights have one schema.
COLUMNS = pa.schema(
    [
        # Identity of the text: `jobs.training.identity.key`.
        (KEY, pa.string()),
        # What the model read.
        ("review_text", pa.string()),
        ("review_task", pa.string()),
        # The column that the task wrote.
        ("review_into", pa.string()),
        # The label, the written text, or JSON of entities and of several labels.
        ("review_prediction", pa.string()),
        ("review_score", pa.float64()),
        # uniform, uncertain, or difference: champion and challenger answer differently.
        (DRAWN, pa.string()),
        # With which the row was drawn, in (0, 1]; of a difference, among the rows that differ.
        ("review_probability", pa.float64()),
        # Index among the rows from which it was drawn, as in the file of scores.
        ("review_position", pa.int64()),
        # When, in UTC (ISO 8601).
        ("review_at", pa.string()),
        ("review_job", pa.string()),
        ("review_run", pa.string()),
        # Source file, part file, and row of the part file.
        ("review_file", pa.string()),
        ("review_part", pa.string()),
        ("review_row", pa.int64()),
        # NAME@COMMIT of the weights.
        ("review_model", pa.string()),
        ("review_adapter", pa.string()),
        # Of a difference only: the versions that differ, what the challenger says, the number of rows drawn with it,
        # and the number of rows that were looked at and not drawn.
        ("review_champion", pa.string()),
        ("review_challenger", pa.string()),
        ("review_challenger_prediction", pa.string()),
        ("review_differences", pa.int64()),
        ("review_others", pa.int64()),
    ]
)

# Of a labelled row: people could not decide about it, or about so many rows drawn with it; and whether every row drawn
# with it as a difference is labelled or skipped.
SKIPPED = "review_skipped"
COMPLETE = "review_complete"


def draw_file(job: str, run: str) -> str:
    """The drawn rows of a run, below the review folder."""
    return f"{DRAWS}/{job}/{run}.parquet"


def labels_file(job: str, run: str) -> str:
    """The labelled rows among them."""
    return f"{LABELS}/{job}/{run}.parquet"


def scores_file(job: str, run: str) -> str:
    """The score of every row from which they were drawn, one column `score`."""
    return f"{SCORES}/{job}/{run}.parquet"
