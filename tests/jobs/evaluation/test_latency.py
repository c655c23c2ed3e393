"""The computing time of two versions is compared in turn, and not on a few rows."""

import pyarrow as pa
import pytest

from jobs.evaluation import latency
from jobs.evaluation.predict import prepare
from tests import tiny

FLOAT = {"dtype": "float32", "device": "cpu"}


def prepared(model, rows):
    table = pa.table({"text": [text.strip() or "." for text in tiny.texts(rows)]})
    return prepare("classify", model, None, table, FLOAT)


@pytest.mark.parametrize(("rows", "measured"), [(latency.FEWEST_ROWS - 1, False), (latency.FEWEST_ROWS, True)])
def test_few_rows_are_not_measured(models, rows, measured):
    versions = (prepared(models / "sentiment", rows), prepared(models / "nli", rows))
    ratio = latency.ratio(*versions, rows_per_s=1000)
    assert (ratio is not None and ratio > 0) == measured
