"""A network is loaded without the table that transformers logs."""

import logging

from transformers import AutoModelForSequenceClassification

from transforms.checkpoint import pretrained


def test_parameters_without_weights_are_returned_and_not_logged(models):
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addHandler(handler)
    try:
        _, missing = pretrained.load(AutoModelForSequenceClassification, str(models / "mlm"))
    finally:
        logger.removeHandler(handler)
    assert {"classifier.weight", "classifier.bias"} <= missing
    assert not any(pretrained.REPORT in line for line in said)
