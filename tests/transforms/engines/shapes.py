"""Encoders of a few thousand weights, one of each family that has layers of its own."""

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    CamembertConfig,
    CamembertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

SHAPE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
DISTIL = {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48}
FAMILIES = [
    (BertForSequenceClassification, BertConfig, SHAPE),
    (RobertaForSequenceClassification, RobertaConfig, SHAPE),
    (XLMRobertaForSequenceClassification, XLMRobertaConfig, SHAPE),
    (CamembertForSequenceClassification, CamembertConfig, SHAPE),
    (ElectraForSequenceClassification, ElectraConfig, {**SHAPE, "embedding_size": 16}),
    (DistilBertForSequenceClassification, DistilBertConfig, DISTIL),
]
LENGTHS = [23, 20, 9, 2, 1]


def build(network, config, shape):
    """A network with random weights, far enough apart to tell logits from noise."""
    torch.manual_seed(0)
    return network(
        config(**{"vocab_size": 120, "num_labels": 3, "initializer_range": 0.5, "pad_token_id": 1} | shape)
    ).eval()


def padded_inputs():
    """Five rows of `LENGTHS` tokens."""
    ids = torch.randint(2, 120, (5, 23), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(23) < torch.tensor(LENGTHS)[:, None]).long()
    return {"input_ids": torch.where(mask.bool(), ids, 1), "attention_mask": mask}
