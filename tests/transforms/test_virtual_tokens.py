"""Prompt tuning, p-tuning and prefix tuning of encoders give in batches what PEFT gives one row at a time."""

import pytest
import torch
from peft import (
    MultitaskPromptTuningConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from transforms import rehearsal
from transforms.engines.encoder import EncoderLayer
from transforms.errors import ModelError
from transforms.model import forward, load
from transforms.reference import ModelRef
from transforms.tasks import classify, embed, generate, ner

KINDS = {
    "prefix": (PrefixTuningConfig, {}),
    "prompt": (PromptTuningConfig, {}),
    "p-tuning": (PromptEncoderConfig, {"encoder_hidden_size": 8}),
    "multitask": (MultitaskPromptTuningConfig, {"num_ranks": 2}),
}
ROWS = [[2, 5, 6, 7, 3], [2, 9, 3], [2, *range(20, 40), 3], [2, 9, 8, 7, 6, 5, 3]]
HEADS = {
    "sentiment": (AutoModelForSequenceClassification, "SEQ_CLS", "logits"),
    "ner": (AutoModelForTokenClassification, "TOKEN_CLS", "logits"),
    "answer": (AutoModelForQuestionAnswering, "QUESTION_ANS", "start_logits"),
    "ner_bytes": (AutoModelForTokenClassification, "TOKEN_CLS", "logits"),
    "mlm": (AutoModel, "FEATURE_EXTRACTION", "last_hidden_state"),
}


def tuned(base, auto, task_type, kind, folder, **sizes):
    """An adapter of four virtual tokens with random weights."""
    torch.manual_seed(3)
    config, more = KINDS[kind]
    settings = config(num_virtual_tokens=4, task_type=task_type, **more, **sizes)
    network = get_peft_model(auto.from_pretrained(base), settings)
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
            asked = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids))}
            want = getattr(outputs_of(reference, kind, asked), field)[0]
        by_token = name != "sentiment"
        want = want[-len(ids) :] if by_token else want
        torch.testing.assert_close(got[i][: len(ids)] if by_token else got[i], want, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(getattr(forward(plain, [ids]), field)[0], want, atol=1e-2)
    assert model.max_length == plain.max_length - 4, "virtual tokens take places"
    assert model.padding == "right", "rows of different lengths share a batch"
    assert any(isinstance(module, EncoderLayer) for module in model.network.modules()), "layers are fused"


def outputs_of(reference, kind, inputs):
    """PEFT's outputs; it has no multitask prompts for question answering and features, so they are put before."""
    if kind != "multitask":
        return reference(**inputs)
    prompts = reference.get_prompt(1, task_ids=torch.zeros(1, dtype=torch.long))
    embedded = torch.cat([prompts, reference.word_embeddings(inputs["input_ids"])], 1)
    mask = torch.ones(embedded.shape[:2])
    return reference.get_base_model()(inputs_embeds=embedded, attention_mask=mask)


def test_distilbert_takes_prompts_and_prefix_tuning_names_what_it_takes(tmp_path):
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    from tests import tiny

    tokenizer = tiny.wordpiece()
    sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "initializer_range": 0.5}
    config = DistilBertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, num_labels=3, **sizes)
    DistilBertForSequenceClassification(config).save_pretrained(base := tmp_path / "base")
    tokenizer.save_pretrained(base)
    auto = AutoModelForSequenceClassification
    # PEFT does not find these in a DistilBERT's configuration.
    given = {"token_dim": 32, "num_layers": 2, "num_attention_heads": 2}
    adapter = tuned(base, auto, "SEQ_CLS", "prompt", tmp_path / "prompt", **given)
    reference = PeftModel.from_pretrained(auto.from_pretrained(base), adapter).eval()
    model = load(ModelRef(str(base), str(adapter), device="cpu"), auto)
    got = forward(model, ROWS).logits
    for i, ids in enumerate(ROWS):
        with torch.inference_mode():
            want = reference(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids))).logits[0]
        torch.testing.assert_close(got[i], want, atol=1e-4, rtol=1e-4)
    prefix = tuned(base, auto, "SEQ_CLS", "prefix", tmp_path / "prefix", **given)
    with pytest.raises(ModelError, match=r"DistilBertFor.* accept no past keys and values; use prompt tuning, or"):
        tried(base, prefix, "classify", classify.Options("text"))


def test_a_multitask_prompt_for_several_tasks_is_refused(models, tmp_path):
    torch.manual_seed(0)
    config = MultitaskPromptTuningConfig(num_virtual_tokens=4, num_tasks=3, num_ranks=2, task_type="SEQ_CLS")
    base = AutoModelForSequenceClassification.from_pretrained(models / "sentiment")
    get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"is for 3 tasks \(num_tasks\), and a job cannot say which; save an adapter"):
        tried(models / "sentiment", tmp_path / "adapter", "classify", classify.Options("text"))


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
