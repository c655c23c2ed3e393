"""Every family of transformers with a head for a text task: rows in batches give what each row gives alone."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from tests import tiny, tiny_encoders
from transforms import batches
from transforms.annotators.embed import TextEncoder
from transforms.errors import ModelError
from transforms.model import ModelRef, forward, load
from transforms.padding import FIELDS

# Families that read more than a text; they are refused when they are loaded.
REFUSED = {
    "bros": "bbox",
    "lxmert": "visual_feats",
}

# Families that no tiny model is made of.
UNTRIED = {
    "layoutlmv2": "needs detectron2, which is not on PyPI",
    "tapas": "reads tables, in type ids of seven columns",
}

# Bodies that are no text encoder by themselves: of encoder-decoders without a class for the encoder, and of models that
# have other inputs.
BODILESS = {"bart", "bigbird_pegasus", "led", "mbart", "mvp", "perceiver", "plbart", "t5gemma", "t5gemma2"}

# Families whose rows are not padded on the right: one that joined them by accident would become slower.
BY_LENGTH = ["big_bird", "bigbird_pegasus", "canine", "convbert", "fnet", "funnel", "nystromformer", "reformer", "yoso"]
BY_HEAD = {
    ("xlnet", "AutoModelForSequenceClassification"): "left",
    # They read the place after the last token, where a text alone has none.
    ("t5gemma", "AutoModelForSequenceClassification"): "equal",
    ("t5gemma2", "AutoModelForSequenceClassification"): "equal",
}

FAMILIES = sorted(set().union(*tiny_encoders.HEADS.values()))
# Enough tokens for CANINE and Funnel, which compute nothing for fewer than four.
TEXTS = [text for text in tiny.texts(60, seed=5) if len(text.split()) > 3][:9]


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in UNTRIED])
def test_rows_in_batches_give_what_each_row_gives_alone(family, tmp_path):
    for head in heads(family):
        folder = tiny_encoders.save(tmp_path / head, family, head)
        architecture: Any = TextEncoder if head == "TextEncoder" else head
        if family in REFUSED:
            with pytest.raises(ModelError, match=f"cannot compute a text on its own .*{REFUSED[family]}"):
                load(ModelRef(str(folder), device="cpu"), architecture)
            continue
        model = load(ModelRef(str(folder), device="cpu"), architecture)
        rows = encode(model.tokenizer, paired=head == "AutoModelForQuestionAnswering")
        network = reference(folder, head)
        for got, want in zip(batched(model, rows), [alone(network, row) for row in rows], strict=True):
            np.testing.assert_allclose(got, want, atol=1e-3 * np.abs(want).max(), rtol=0, err_msg=head)
        assert model.padding == BY_HEAD.get((family, head), "equal" if family in BY_LENGTH else "right"), head


def test_families_without_a_trial_are_families_of_transformers():
    assert {*UNTRIED, *REFUSED, *BODILESS} <= {*FAMILIES}
    assert len(UNTRIED) == 2
    assert len(REFUSED) == 2


def heads(family: str) -> list[str]:
    """The heads that a family has, and its body."""
    body = [] if family in BODILESS else ["TextEncoder"]
    return [head for head, families in tiny_encoders.HEADS.items() if family in families] + body


def encode(tokenizer: Any, paired: bool) -> list[dict[str, list[int]]]:
    """Texts as a tokenizer gives them, each by itself; with a question before each if `paired`."""
    length = tokenizer.model_max_length
    if not paired:
        return [dict(tokenizer(text, truncation=True, max_length=length)) for text in TEXTS]
    return [dict(tokenizer("who is it", text, truncation="only_second", max_length=length)) for text in TEXTS]


def reference(folder: Any, head: str) -> Any:
    """The network as transformers loads it."""
    if head != "TextEncoder":
        return getattr(transformers, head).from_pretrained(folder).eval()
    config = transformers.AutoConfig.from_pretrained(folder)
    return TextEncoder.from_pretrained(str(folder), config=config, output_loading_info=True)[0].eval()


def alone(network: Any, row: dict[str, list[int]]) -> np.ndarray:
    """What a network that has computed nothing before gives for one row."""
    taken = inspect.signature(network.forward).parameters
    torch.manual_seed(0)
    with torch.inference_mode():
        output = copy.deepcopy(network)(**{name: torch.tensor([row[name]]) for name in row if name in taken})
    return read(output, len(row["input_ids"]))[0].float().numpy()


def batched(model: Any, rows: list[dict[str, list[int]]]) -> list[np.ndarray | None]:
    """What the rows give in batches."""
    ids, types = [row["input_ids"] for row in rows], [row.get("token_type_ids") for row in rows]

    def compute(batch: np.ndarray) -> torch.Tensor:
        given = [types[i] for i in batch] if any(map(any, filter(None, types))) else None
        return read(forward(model, [ids[i] for i in batch], given), max(len(ids[i]) for i in batch))

    outcome = batches.run([len(row) for row in ids], compute, 160, model.caps())
    assert not outcome.failures
    return outcome.outputs


def read(output: Any, width: int) -> torch.Tensor:
    """What a task reads of an output, `(batch, labels)` or `(batch, seq, ...)`."""
    fields = [output[name] for name in FIELDS if output.get(name) is not None]
    stacked = fields[0] if len(fields) == 1 else torch.stack(fields, dim=-1)
    return stacked[:, :width] if stacked.ndim > 2 else stacked
