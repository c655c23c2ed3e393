"""Rough logits give the token that the exact ones give, whatever they look like, and never cost more than they save."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests import tiny_causal, tiny_seq2seq
from tests.transforms.generation.test_decode import requests, same
from transforms.batches import Caps
from transforms.engines.packed import PackedLinear, available
from transforms.generation import head
from transforms.generation.choice import _likeliest
from transforms.generation.decode import decode
from transforms.generation.head import Head, Rough, head_of
from transforms.generation.request import Request
from transforms.generation.settings import Decoding
from transforms.generation.writer import AutoWriter
from transforms.model import ModelRef, load

needs_vnni = pytest.mark.skipif(not head.supported(), reason="this CPU cannot multiply eight bits exactly")


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 700), st.integers(1, 5), st.booleans())
def test_the_likeliest_token_is_the_first_of_the_largest_and_nan_is_largest(seed, vocabulary, rows, with_nan):
    random = np.random.default_rng(seed)
    scores = torch.from_numpy(random.integers(-4, 4, (rows, vocabulary)).astype(np.float32))
    if with_nan:
        scores[0, random.integers(vocabulary)] = torch.nan
    scores[-1] = -torch.inf
    assert _likeliest(scores).tolist() == scores.argmax(dim=-1).tolist()


@needs_vnni
@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 900),
    st.sampled_from([8, 33, 64]),
    st.floats(0.01, 100),
    st.booleans(),
    st.integers(0, 5),
)
def test_rough_logits_give_the_likeliest_token_of_exact_logits(seed, vocabulary, width, spread, with_bias, banned):
    random = np.random.default_rng(seed)
    # Rows of very different lengths, an outlier in the hidden state, and what is not rounded well.
    weight = torch.from_numpy(random.normal(size=(vocabulary, width)) * random.lognormal(0, 1, (vocabulary, 1))).float()
    hidden = torch.from_numpy(random.normal(size=(6, 1, width)) * spread).float()
    hidden[0, 0, 0] *= 50
    bias = torch.from_numpy(random.normal(size=vocabulary)).float() if with_bias else None
    linear = nn.Linear(width, vocabulary, bias=False)
    with torch.inference_mode():
        linear.weight.copy_(weight)
        made = Head(linear, linear.weight, bias)
        with made.take():
            made(hidden)
        rough = made.logits()
        assert isinstance(rough, Rough)
        exact = rough.exact().clone()
        worst = rough.error.repeat_interleave(head.BLOCK, 1)[:, :vocabulary] + 1e-4
        assert ((rough.scores - exact).abs() <= worst).all()
        for _ in range(min(banned, vocabulary - 1)):
            leader = exact.argmax(1)
            exact[torch.arange(6), leader] = rough.scores[torch.arange(6), leader] = -torch.inf
        best = rough.best()
        if best is not None:
            assert torch.allclose(exact[torch.arange(6), best], exact.amax(1), rtol=1e-4, atol=1e-4)


@needs_vnni
def test_exact_logits_are_used_when_rough_ones_cannot_decide():
    linear = nn.Linear(16, 64 * head.BLOCK, bias=False)
    with torch.inference_mode():
        linear.weight.fill_(0.5)
        made = Head(linear, linear.weight, None)
        found = []
        for _ in range(40):
            with made.take():
                made(torch.ones(2, 1, 16))
            logits = made.logits()
            found.append(logits.best() if isinstance(logits, Rough) else logits)
    assert all(one is None for one in found[:17])
    assert found[-1].shape == (2, 64 * head.BLOCK)


@needs_vnni
@pytest.mark.parametrize("family", [family for family in tiny_seq2seq.FAMILIES if family != "led"])
def test_tokens_from_rough_logits_are_those_of_generate(writers, monkeypatch, family):
    monkeypatch.setattr(head, "SMALLEST", 0)
    model = load(ModelRef(str(writers(family)), device="cpu"), AutoWriter)
    if hasattr(model.network, "final_logits_bias"):
        model.network.final_logits_bias = torch.linspace(-1, 1, model.network.final_logits_bias.shape[-1])[None]
    asked = requests(model)
    assert isinstance(head_of(model.network), Head)
    same(model, asked, Decoding())
    same(model, asked, Decoding(no_repeat_ngram_size=2), no_repeat_ngram_size=2)
    same(model, asked, Decoding(min_new_tokens=6), min_new_tokens=6)
    assert model.network.lm_head.tries > 20
    # What wants all logits gets them, bias included.
    same(model, asked[:8], Decoding(repetition_penalty=1.7), repetition_penalty=1.7)
    same(model, asked[:4], Decoding(num_beams=3), num_beams=3)
    same(model, [Request(r.ids, 9, seed=i) for i, r in enumerate(asked[:8])], Decoding(sample=True), do_sample=True)


class Even:
    """A guide that leaves the tokens with even numbers."""

    def __init__(self, vocabulary: int):
        self.even = np.arange(vocabulary) % 2 == 0

    def allowed(self) -> np.ndarray:
        return self.even

    def accept(self, token: int) -> bool:
        assert token % 2 == 0
        return False


@needs_vnni
@pytest.mark.parametrize("most_blocks", [head.MOST_BLOCKS, 0], ids=["rough", "never rough enough"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_decoder_only_models_use_rough_logits_and_obey_guides(causal_model, monkeypatch, family, most_blocks):
    folder = str(causal_model(family))
    plain = load(ModelRef(folder, device="cpu"), AutoWriter)
    prompts = [plain.tokenizer(f"{text} ->")["input_ids"] for text in tiny_causal.sentences(12, 1)]
    vocabulary = plain.config.vocab_size
    asked = [Request(ids, 16) for ids in prompts]
    asked += [Request(ids, 16, guide=lambda: Even(vocabulary)) for ids in prompts]
    want = decode(plain, asked, Decoding(), 200, Caps())
    monkeypatch.setattr(head, "SMALLEST", 0)
    monkeypatch.setattr(head, "MOST_BLOCKS", most_blocks)
    model = load(ModelRef(folder, device="cpu"), AutoWriter)
    assert decode(model, asked, Decoding(), 200, Caps()).outputs == want.outputs
    assert model.network.lm_head.tries >= 10
    assert (model.network.lm_head.misses > 0) == (most_blocks == 0)


@needs_vnni
def test_a_nan_hidden_state_fails_only_its_row(writers, monkeypatch):
    monkeypatch.setattr(head, "SMALLEST", 0)
    model = load(ModelRef(str(writers("bart")), device="cpu"), AutoWriter)
    asked = requests(model)
    clean = decode(model, asked, Decoding(), 400, Caps()).outputs
    made, taken = head_of(model.network), Head.forward

    def broken(self, hidden):
        if self.taking and len(hidden) > 2:
            hidden = hidden.clone()
            hidden[1] = torch.nan
        return taken(self, hidden)

    monkeypatch.setattr(Head, "forward", broken)
    result = decode(model, asked, Decoding(), 400, Caps())
    assert made is model.network.lm_head
    assert result.failures
    assert {type(error) for error in result.failures.values()} == {FloatingPointError}
    kept = [i for i in range(len(asked)) if i not in result.failures]
    assert [result.outputs[i] for i in kept] == [clean[i] for i in kept]


@needs_vnni
def test_a_network_that_changes_its_logits_keeps_its_own_head(writers, monkeypatch):
    monkeypatch.setattr(head, "SMALLEST", 0)
    model = load(ModelRef(str(writers("marian")), device="cpu"), AutoWriter)
    own = model.network.lm_head
    assert isinstance(own, PackedLinear if available(torch.float32) else nn.Linear)
    forward = type(model.network).forward

    def capped(self, *arguments, **named):
        output = forward(self, *arguments, **named)
        output.logits = 3 * torch.tanh(output.logits / 3)
        return output

    monkeypatch.setattr(type(model.network), "forward", capped)
    assert head_of(model.network) is None
    assert model.network.lm_head is own
