"""Texts of models with virtual tokens, in batches of mixed lengths, are those of PEFT for one row at a time."""

import numpy as np
import pyarrow as pa
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
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from transforms import registry, soft_prompt
from transforms.batches import Caps
from transforms.generation import causal, lanes, seq2seq, stepper
from transforms.generation.decode import decode
from transforms.generation.request import Request
from transforms.generation.settings import Decoding
from transforms.likelihood import likelihood
from transforms.model import load
from transforms.reference import ModelRef

KINDS = {
    "prompt": (PromptTuningConfig, {}),
    "p-tuning": (PromptEncoderConfig, {"encoder_hidden_size": 8}),
    "prefix": (PrefixTuningConfig, {}),
    "multitask": (MultitaskPromptTuningConfig, {"num_ranks": 2}),
}
SEQ2SEQ = ("t5", "bart", "marian")
CASES = [(family, kind) for family in ("gpt2", "llama", "t5", "bart") for kind in KINDS]
# A sliding window, positions from the mask, sinusoidal positions.
CASES += [("mistral", "prompt"), ("mistral", "prefix"), ("bloom", "prompt"), ("bloom", "prefix"), ("marian", "prefix")]
VIRTUAL, NEW = 5, 8
TARGET = [61, 87, 133, 45]


def is_seq2seq(family):
    return family in SEQ2SEQ


def tuned(base, family, kind, folder):
    """An adapter trained for a second to write TARGET, and PEFT's own model with it."""
    auto = AutoModelForSeq2SeqLM if is_seq2seq(family) else AutoModelForCausalLM
    torch.manual_seed(3)
    config, more = KINDS[kind]
    task_type = "SEQ_2_SEQ_LM" if is_seq2seq(family) else "CAUSAL_LM"
    network = get_peft_model(
        auto.from_pretrained(base), config(num_virtual_tokens=VIRTUAL, task_type=task_type, **more)
    )
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        torch.nn.init.normal_(parameter)
    optimizer = torch.optim.Adam(trained, 0.3)
    sources = torch.randint(30, 200, (8, 7))
    target = torch.tensor([TARGET] * 8)
    more = {"task_ids": torch.zeros(8, dtype=torch.long)} if kind == "multitask" else {}
    for _ in range(15):
        if is_seq2seq(family):
            loss = learn(network, sources, target, more)
        else:
            ids = torch.cat([sources, target], 1)
            labels = torch.cat([torch.full_like(sources, -100), target], 1)
            loss = network(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels, **more).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.save_pretrained(folder)
    return PeftModel.from_pretrained(auto.from_pretrained(base), str(folder)).eval()


def learn(network, sources, target, more):
    """The loss of a target; PEFT's multitask prompts take no labels with decoder tokens."""
    if not more:
        return network(input_ids=sources, attention_mask=torch.ones_like(sources), labels=target).loss
    prompts = network.get_prompt(len(sources), **more)[:, :VIRTUAL]
    embedded = torch.cat([prompts, network.word_embeddings(sources)], 1)
    return network.get_base_model()(inputs_embeds=embedded, labels=target).loss


@pytest.fixture(scope="module")
def adapted(writers, causal_model, tmp_path_factory):
    """(family, kind) -> base folder, the loaded model, PEFT's own model; made once."""
    made = {}

    def make(family, kind, dtype="float32"):
        if (key := (family, kind, dtype)) not in made:
            base = str(writers(family) if is_seq2seq(family) else causal_model(family))
            folder = tmp_path_factory.mktemp("adapter")
            reference = tuned(base, family, kind, folder)
            auto = AutoModelForSeq2SeqLM if is_seq2seq(family) else AutoModelForCausalLM
            made[key] = base, load(ModelRef(base, str(folder), dtype, device="cpu"), auto), reference
        return made[key]

    return make


def prompts(n=7, shared=0):
    random = np.random.default_rng(5)
    first = random.integers(30, 200, shared).tolist()
    return [first + random.integers(30, 200, size).tolist() for size in random.permutation(n) * 2 + 1]


def alone(reference, kind, ids, family, **how):
    """PEFT's text for one row."""
    more = {"task_ids": torch.zeros(1, dtype=torch.long)} if kind == "multitask" else {}
    ids = torch.tensor([ids])
    with torch.inference_mode():
        whole = reference.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, **how, **more
        )[0].tolist()
    new, end = whole[1 if is_seq2seq(family) else ids.shape[1] :], reference.generation_config.eos_token_id
    return new[: new.index(end)] if end in new else new


def texts(model, asked, how, seeds=None):
    requests = [Request(ids, NEW, seed=seeds[i] if seeds else 0) for i, ids in enumerate(asked)]
    found = decode(model, requests, how, 60, Caps())
    assert not found.failures
    return [output.ids for output in found.outputs], found


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_mixed_lengths_give_the_texts_of_each_row_alone(adapted, monkeypatch, family, kind):
    base, model, reference = adapted(family, kind)
    room = seq2seq.MAX_ROWS if is_seq2seq(family) else causal.ROWS
    # Fewer places than rows, so that rows take the places of finished ones.
    monkeypatch.setitem(room, "cpu", 4)
    assert not hasattr(model.network, "peft_config")
    assert (stepper.fits(model) if is_seq2seq(family) else lanes.fits(model.network)) or family == "bloom"
    asked = prompts()
    greedy = Decoding(num_beams=1)
    got, _ = texts(model, asked, greedy)
    assert got == [alone(reference, kind, ids, family, do_sample=False, num_beams=1) for ids in asked]
    beams, _ = texts(model, asked[:4], Decoding(num_beams=3))
    assert beams == [alone(reference, kind, ids, family, do_sample=False, num_beams=3) for ids in asked[:4]]
    auto = AutoModelForSeq2SeqLM if is_seq2seq(family) else AutoModelForCausalLM
    without, _ = texts(load(ModelRef(base, device="cpu"), auto), asked, greedy)
    assert sum(one != other for one, other in zip(got, without, strict=True)) >= 2, "virtual tokens change texts"


@pytest.mark.parametrize("family", ["gpt2", "t5"])
@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_sampled_texts_are_those_of_the_same_seed_alone(adapted, family, kind):
    _, model, reference = adapted(family, kind)
    asked, how = prompts(6), Decoding(sample=True, top_k=20, temperature=0.9)
    got, _ = texts(model, asked, how, seeds=range(7, 13))
    want = []
    for i, ids in enumerate(asked):
        torch.manual_seed(7 + i)
        want.append(alone(reference, kind, ids, family, do_sample=True, top_k=20, temperature=0.9))
    assert got == want


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_prefix_that_prompts_share_follows_the_virtual_tokens(adapted, monkeypatch, family, kind):
    _, model, reference = adapted(family, kind)
    monkeypatch.setitem(causal.ROWS, "cpu", 3)
    asked = prompts(7, shared=12)
    got, found = texts(model, asked, Decoding())
    assert got == [alone(reference, kind, ids, family, do_sample=False) for ids in asked]
    # The shared tokens are computed once: with them in every row, there would be 6 * 12 more.
    new = sum(len(output.ids) + output.finished for output in found.outputs)
    assert found.tokens == 12 + sum(len(ids) - 13 for ids in asked) + new


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "bart", "t5"])
def test_bfloat16_is_computed_too(adapted, family, kind):
    model = adapted(family, kind, "bfloat16")[1]
    got, _ = texts(model, prompts(4), Decoding())
    assert any(got)


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "t5", "bart"])
def test_perplexity_is_that_of_each_row_alone(adapted, family, kind):
    base, model, reference = adapted(family, kind)
    task = registry.get("summarize" if is_seq2seq(family) else "generate")
    writer = task.load(task.Options(column="text", max_new_tokens=9), model, 400)
    texts_, targets = (
        ["a cat", "the red birds sang of rain on a mat", "soup"],
        ["fish soup", "bread", "blue birds sang"],
    )
    found = likelihood(writer, pa.RecordBatch.from_pydict({"text": texts_}), targets)
    plain = task.load(writer.options, load(ModelRef(base, device="cpu"), task.ARCHITECTURE), 400)
    without = likelihood(plain, pa.RecordBatch.from_pydict({"text": texts_}), targets)
    for i, (text, target) in enumerate(zip(texts_, targets, strict=True)):
        with torch.inference_mode():
            if is_seq2seq(family):
                source = torch.tensor([writer.ids([text])[0]])
                labels = torch.tensor([model.tokenizer(text_target=target)["input_ids"]])
                given = int(family == "bart")
                logits = reference(input_ids=source, attention_mask=torch.ones_like(source), labels=labels).logits
                logits, labels = logits[0, given:], labels[0, given:]
            else:
                source = writer.prompts([[text]])[0]
                labels = torch.tensor([*model.tokenizer(target, add_special_tokens=False)["input_ids"], 2])
                ids = torch.tensor([[*source, *labels.tolist()]])
                logits = reference(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -len(labels) - 1 : -1]
        want = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        assert found.tokens[i] == len(labels)
        assert found.nll[i] == pytest.approx(want.item(), rel=1e-4)
        assert without.nll[i] != pytest.approx(want.item(), rel=5e-4)


def test_a_network_whose_logits_differ_is_refused(adapted, monkeypatch):
    reference = adapted("llama", "prompt")[2]
    whole = type(reference.base_model).forward

    def without_cache(self, *args, past_key_values=None, **named):
        return whole(self, *args, **named)

    monkeypatch.setattr(type(reference.base_model), "forward", without_cache)
    with pytest.raises(soft_prompt.ModelError, match="LlamaForCausalLM cannot be given the keys and values"):
        soft_prompt.of(reference)
