"""Prompt tuning, p-tuning and prefix tuning give in batches what PEFT gives one row at a time."""

import numpy as np
import pytest
import torch
from peft import PeftModel, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, get_peft_model
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from transforms import rehearsal
from transforms.batches import Caps
from transforms.errors import ModelError
from transforms.generation.decode import decode
from transforms.generation.request import Request
from transforms.generation.settings import Decoding
from transforms.model import forward, load
from transforms.reference import ModelRef
from transforms.tasks import classify, embed, generate, ner

KINDS = {
    "prefix": (PrefixTuningConfig, {}),
    "prompt": (PromptTuningConfig, {}),
    "p-tuning": (PromptEncoderConfig, {"encoder_hidden_size": 8}),
}
ROWS = [[2, 5, 6, 7, 3], [2, 9, 3], [2, *range(20, 40), 3], [2, 9, 8, 7, 6, 5, 3]]
HEADS = {
    "sentiment": (AutoModelForSequenceClassification, "SEQ_CLS", "logits"),
    "ner": (AutoModelForTokenClassification, "TOKEN_CLS", "logits"),
    "answer": (AutoModelForQuestionAnswering, "QUESTION_ANS", "start_logits"),
    "mlm": (AutoModel, "FEATURE_EXTRACTION", "last_hidden_state"),
}


def tuned(base, auto, task_type, kind, folder, seed=3):
    """An adapter of four virtual tokens with random weights."""
    torch.manual_seed(seed)
    config, more = KINDS[kind]
    network = get_peft_model(auto.from_pretrained(base), config(num_virtual_tokens=4, task_type=task_type, **more))
    for parameter in network.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter)
    network.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", HEADS)
def test_encoders_give_what_peft_gives(models, tmp_path, kind, name):
    auto, task_type, field = HEADS[name]
    base, adapter = str(models / name), str(tuned(models / name, auto, task_type, kind, tmp_path / "adapter"))
    reference = PeftModel.from_pretrained(auto.from_pretrained(base), adapter).eval()
    plain = load(ModelRef(base, device="cpu"), embed.ARCHITECTURE if name == "mlm" else auto)
    model = load(ModelRef(base, adapter, device="cpu"), embed.ARCHITECTURE if name == "mlm" else auto)
    got = getattr(forward(model, ROWS), field)
    for i, ids in enumerate(ROWS):
        with torch.inference_mode():
            want = getattr(reference(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids))), field)[0]
        by_token = name != "sentiment"
        want = want[-len(ids) :] if by_token else want
        torch.testing.assert_close(got[i][: len(ids)] if by_token else got[i], want, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(getattr(forward(plain, [ids]), field)[0], want, atol=1e-2)
    assert model.max_length == plain.max_length - 4, "virtual tokens take places"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["gpt2", "llama", "t5", "bart"])
def test_texts_are_those_that_peft_generates_alone(writers, causal_model, tmp_path, kind, family):
    encoder_decoder = family in ("t5", "bart")
    auto = AutoModelForSeq2SeqLM if encoder_decoder else AutoModelForCausalLM
    task_type = "SEQ_2_SEQ_LM" if encoder_decoder else "CAUSAL_LM"
    base = str(writers(family) if encoder_decoder else causal_model(family))
    adapter = str(tuned(base, auto, task_type, kind, tmp_path / "adapter"))
    reference = PeftModel.from_pretrained(auto.from_pretrained(base), adapter).eval()
    model = load(ModelRef(base, adapter, device="cpu"), auto)
    random = np.random.default_rng(5)
    asked = [random.integers(30, 200, size).tolist() for size in (3, 9, 3, 14, 1, 9)]
    got = decode(model, [Request(ids, 12) for ids in asked], Decoding(), 400, Caps())
    assert not got.failures
    ends = reference.generation_config.eos_token_id
    for ids, output in zip(asked, got.outputs, strict=True):
        with torch.inference_mode():
            whole = reference.generate(
                input_ids=torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                max_new_tokens=12,
                do_sample=False,
                num_beams=1,
            )[0].tolist()
        new = whole[1 if encoder_decoder else len(ids) :]
        assert output.ids == (new[: new.index(ends)] if ends in new else new)


def tried(base, adapter, task, options):
    rehearsal.rehearse(ModelRef(str(base), str(adapter)), task, options)


def test_virtual_tokens_are_accepted_at_plan_time_and_refused_for_another_task(models, causal_model, tmp_path):
    sentiment = tuned(models / "sentiment", *HEADS["sentiment"][:2], "prefix", tmp_path / "sentiment")
    tried(models / "sentiment", sentiment, "classify", classify.Options("text"))
    with pytest.raises(ModelError, match=r"\(PREFIX_TUNING\) has task_type SEQ_CLS, and the model is a BertForToken"):
        tried(models / "ner", sentiment, "ner", ner.Options("text"))
    writer = tuned(causal_model("gpt2"), AutoModelForCausalLM, "CAUSAL_LM", "prompt", tmp_path / "writer")
    tried(causal_model("gpt2"), writer, "generate", generate.Options(column="text", max_new_tokens=9))
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    options = generate.Options(column="text", max_new_tokens=9, json_schema=schema)
    with pytest.raises(ModelError, match="json_schema needs a model that can be batched continuously"):
        tried(causal_model("gpt2"), writer, "generate", options)


def test_prefix_tuning_of_a_network_that_takes_no_keys_and_values_is_refused(tmp_path):
    from transformers import MPNetConfig, MPNetForSequenceClassification

    from tests import tiny

    tokenizer = tiny.wordpiece()
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = MPNetConfig(vocab_size=len(tokenizer), num_labels=3, **sizes)
    MPNetForSequenceClassification(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    adapter = tuned(tmp_path / "base", AutoModelForSequenceClassification, "SEQ_CLS", "prefix", tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"is PREFIX_TUNING, and the layers of MPNet.* accept no past keys and values"):
        tried(tmp_path / "base", adapter, "classify", classify.Options("text"))
