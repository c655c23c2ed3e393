"""The layers and their engines: every layout of rows, unpadded batches, and networks that cannot mix adapters."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import nn

from tests import tiny
from tests.rows_by_adapter import check, who
from tests.tiny_adapters import lora
from transforms import model as models_
from transforms import registry, rehearsal
from transforms.by_row.layers import LowRankLinear, Term, join, linear
from transforms.by_row.selection import Selection
from transforms.engines import encoder, unpadded
from transforms.errors import ModelError
from transforms.model import load
from transforms.reference import ModelRef

COUNT, IN, OUT = 4, 6, 5
TEXTS = [text for text in tiny.texts(40) if text.strip()]


def terms(seed: int, out: int = OUT) -> list[Term | None]:
    """Three adapters of ranks 1, 2 and 3, and one that does not change the layer."""
    generator = torch.Generator().manual_seed(seed)
    made: list[Term | None] = [
        Term(torch.randn(IN, rank, generator=generator), torch.randn(rank, out, generator=generator))
        for rank in (1, 2, 3)
    ]
    return [*made[:2], None, made[2]]


def expected(layer: nn.Linear, found: list[Term | None], rows: torch.Tensor, adapters: list[int]) -> torch.Tensor:
    output = layer(rows)
    for i, adapter in enumerate(adapters):
        if (term := found[adapter]) is not None:
            output[i] += rows[i] @ term.down @ term.up
    return output


@pytest.mark.parametrize("shape", [(7, 3, IN), (7, IN), (7, 2, 3, IN)])
@pytest.mark.parametrize("adapters", [[3, 0, 1, 1, 2, 0, 3], [2] * 7, [1] * 7])
def test_each_row_gets_the_term_of_its_adapter(shape, adapters):
    torch.manual_seed(1)
    layer, selection, found = nn.Linear(IN, OUT), Selection(), terms(0)
    changed, rows = linear(layer, found, selection), torch.randn(shape)
    with torch.inference_mode(), selection.rows(adapters):
        torch.testing.assert_close(changed(rows), expected(layer, found, rows, adapters))


def test_beams_of_a_row_and_tokens_without_padding_have_the_adapter_of_their_row():
    torch.manual_seed(1)
    layer, selection, found = nn.Linear(IN, OUT), Selection(), terms(0)
    changed = linear(layer, found, selection)
    with torch.inference_mode(), selection.rows([3, 0, 1]):
        rows = torch.randn(6, 2, IN)
        torch.testing.assert_close(changed(rows), expected(layer, found, rows, [3, 3, 0, 0, 1, 1]))
        with selection.unpadded((4, 1, 2)):
            rows = torch.randn(7, IN)
            torch.testing.assert_close(changed(rows), expected(layer, found, rows, [3] * 4 + [0] + [1] * 2))
        with pytest.raises(ValueError, match="a layer got 4 entries for 3 rows"):
            changed(torch.randn(4, 2, IN))


def test_joined_layers_keep_their_terms():
    torch.manual_seed(1)
    selection, adapters = Selection(), [3, 0, 1, 2]
    query, key, value = nn.Linear(IN, OUT), nn.Linear(IN, OUT), nn.Linear(IN, 3)
    first, third = terms(0), terms(1, out=3)
    joined = join([linear(query, first, selection), key, linear(value, third, selection)], encoder._join)
    rows = torch.randn(4, 3, IN)
    with torch.inference_mode(), selection.rows(adapters):
        want = [expected(query, first, rows, adapters), key(rows), expected(value, third, rows, adapters)]
        torch.testing.assert_close(joined(rows), torch.cat(want, dim=-1))


def test_batches_without_padding_give_what_padded_ones_give(models, adapters):
    folders = adapters(models / "sentiment", "AutoModelForSequenceClassification", target_modules=["query", "dense"])
    reference = ModelRef(str(models / "sentiment"), device="cpu", adapters=tuple(map(str, folders)))
    loaded = load(reference, "AutoModelForSequenceClassification")
    assert loaded.adapters is not None
    selection, network = loaded.adapters.selection, loaded.network
    assert any(isinstance(module, encoder.EncoderLayer) for module in network.modules())
    ids = torch.arange(5, 29).reshape(3, 8)
    mask = (torch.arange(8) < torch.tensor([[8], [3], [5]])).long()
    with torch.inference_mode(), selection.rows([2, 0, 1]):
        padded = network(input_ids=ids, attention_mask=mask).logits
        packed = unpadded.unpad(network, selection)(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(packed, padded, atol=1e-4, rtol=1e-4)


def test_linear_layers_are_joined_and_packed_below_their_terms(models, adapters):
    folders = adapters(models / "sentiment", "AutoModelForSequenceClassification")
    reference = ModelRef(str(models / "sentiment"), device="cpu", dtype="int8", adapters=tuple(map(str, folders)))
    network = load(reference, "AutoModelForSequenceClassification").network
    kinds = {type(module.base).__name__ for module in network.modules() if isinstance(module, LowRankLinear)}
    assert kinds == {"Int8Linear"}
    assert any(hasattr(module, "joined") and isinstance(module.joined, LowRankLinear) for module in network.modules())


def test_an_embedding_may_have_terms(models, adapters):
    base = models / "sentiment"
    folders = adapters(base, "AutoModelForSequenceClassification", target_modules=["word_embeddings", "value"])
    options = registry.get("classify").Options("text", top_k="all")
    check("classify", base, folders, options, pa.record_batch({"text": TEXTS, "who": who(len(TEXTS))}))


def test_a_network_that_cannot_mix_adapters_computes_one_per_batch(models, adapters, monkeypatch):
    monkeypatch.setattr(models_, "mixes", lambda *_: False)
    base = models / "ner"
    options = registry.get("ner").Options("text")
    batch = pa.record_batch({"text": TEXTS, "who": who(len(TEXTS))})
    annotator = check("ner", base, adapters(base, "AutoModelForTokenClassification"), options, batch)
    assert not annotator.mixes


def refused(base: Any, folder: Any, task: str = "classify") -> str:
    """What the rehearsal of a plan says."""
    reference, options = ModelRef(str(base), adapters=(None, str(folder))), registry.get(task).Options("text")
    with pytest.raises(ModelError) as caught:
        rehearsal.rehearse(reference, task, options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_share_a_base_is_refused_without_reading_weights(models, tmp_path):
    base = models / "sentiment"
    own = lora(base, tmp_path / "own", 1)
    tiny.wordpiece(vocabulary=300).save_pretrained(own)
    assert "has another tokenizer than its base" in refused(base, own)
    saved = lora(base, tmp_path / "saved", 1, modules_to_save=["word_embeddings", "classifier"])
    assert "has embeddings of its own (modules_to_save: bert.embeddings.word_embeddings)" in refused(base, saved)
    odd = shutil.copytree(lora(base, tmp_path / "plain", 1), tmp_path / "odd")
    config = json.loads((odd / "adapter_config.json").read_text())
    (odd / "adapter_config.json").write_text(json.dumps(config | {"r": 8}))
    assert "does not fit its base" in refused(base, odd)


@pytest.mark.parametrize("layer", ["word_embeddings", "decoder"])
def test_weights_that_several_layers_share_are_refused(models, tmp_path, layer):
    base = models / "mlm"
    tied = lora(base, tmp_path / "tied", 1, head="AutoModelForMaskedLM", target_modules=[layer, "query"])
    assert f"{layer}, whose weights the base uses in several layers" in refused(base, tied, "fill_mask")


def test_onnx_is_refused(models, adapters):
    folders = adapters(models / "sentiment", "AutoModelForSequenceClassification")
    reference = ModelRef(str(models / "sentiment"), device="cpu", engine="onnx", adapters=tuple(map(str, folders)))
    with pytest.raises(ModelError, match="engine onnx computes all rows with one adapter"):
        load(reference, "AutoModelForSequenceClassification")
