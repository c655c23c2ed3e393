"""The code of a model repository that brings its own architecture: a BERT by another name."""

CONFIGURATION = """
from transformers import BertConfig


class HubTestConfig(BertConfig):
    model_type = "hub_test"
"""

MODELING = """
from transformers import BertForSequenceClassification

from .configuration_hub_test import HubTestConfig


class HubTestForSequenceClassification(BertForSequenceClassification):
    config_class = HubTestConfig
"""
