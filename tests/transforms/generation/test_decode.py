"""The loop gives the tokens of model.generate() one row at a time, loses nothing, and survives what a batch can do."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tiny, tiny_seq2seq
from transforms.batches import Caps
from transforms.generation import seq2seq, stepper
from transforms.generation.decode import Generation, decode
from transforms.generation.request import Request
from transforms.generation.settings import Decoding
from transforms.generation.stepper import Stepper
from transforms.generation.writer import AutoWriter
from transforms.model import Model, ModelRef, load

TEXTS = tiny.texts(28)


@pytest.fixture(scope="module")
def loaded(writers):
    cached: dict[str, Model] = {}

    def get(family: str) -> Model:
        if family not in cached:
            cached[family] = load(ModelRef(str(writers(family)), device="cpu"), AutoWriter)
        return cached[family]

    return get


def requests(model: Model, new: int = 24, texts=TEXTS, **more) -> list[Request]:
    encoded = model.tokenizer(texts, truncation=True, max_length=model.max_length)["input_ids"]
    return [Request(ids, new, **more) for ids in encoded]


def alone(model: Model, request: Request, **how) -> Generation:
    """The plain way: one row, model.generate()."""
    if request.prefix:
        how["forced_bos_token_id"] = request.prefix[0]
    if how.get("do_sample"):
        torch.manual_seed(request.seed)
    ids = model.network.generate(
        torch.tensor([request.ids]),
        attention_mask=torch.ones(1, len(request.ids), dtype=torch.int64),
        max_new_tokens=request.max_new_tokens,
        **{"num_beams": 1, "do_sample": False, **how},
    )[0].tolist()[1 + len(request.prefix) :]
    end = model.network.generation_config.eos_token_id
    return Generation(ids[: ids.index(end)], True) if end in ids else Generation(ids, False)


def same(model: Model, asked: list[Request], how: Decoding, max_tokens: int = 200, **plain) -> list[Generation]:
    result = decode(model, asked, how, max_tokens, Caps())
    assert not result.failures
    assert result.outputs == [alone(model, request, **plain) for request in asked]
    return result.outputs


@pytest.mark.parametrize("family", tiny_seq2seq.FAMILIES)
def test_greedy_tokens_are_those_of_generate_one_row_at_a_time(loaded, family):
    outputs = same(loaded(family), requests(loaded(family)), Decoding())
    if family != "led":
        assert len({len(output.ids) for output in outputs}) > 3, "every text ends at one step: nothing was tested"


@pytest.mark.parametrize("family", tiny_seq2seq.FAMILIES)
def test_beams_are_those_of_generate_one_row_at_a_time(loaded, family):
    same(loaded(family), requests(loaded(family), 12, TEXTS[:16]), Decoding(num_beams=4), num_beams=4)


@pytest.mark.parametrize("family", [family for family in tiny_seq2seq.FAMILIES if family != "led"])
def test_rows_of_different_ages_share_a_batch(loaded, family):
    assert stepper.fits(loaded(family))


def test_a_decoder_that_ignores_the_mask_of_one_token_goes_through_generate(loaded):
    assert not stepper.fits(loaded("led"))


@pytest.mark.parametrize(
    ("how", "plain"),
    [
        (Decoding(min_new_tokens=9), {"min_new_tokens": 9}),
        (Decoding(no_repeat_ngram_size=2), {"no_repeat_ngram_size": 2}),
        (Decoding(repetition_penalty=1.7), {"repetition_penalty": 1.7}),
        (Decoding(sample=True), {"do_sample": True}),
        (Decoding(sample=True, temperature=2.0, top_k=20, top_p=0.9), {
            "do_sample": True, "temperature": 2.0, "top_k": 20, "top_p": 0.9
        }),
    ],
    ids=["min_new_tokens", "no_repeat_ngram_size", "repetition_penalty", "sample", "sample top_k top_p"],
)  # fmt: skip
@pytest.mark.parametrize("family", ["t5", "marian"])
def test_every_way_to_choose_tokens_gives_the_tokens_of_generate(loaded, family, how, plain):
    asked = [Request(r.ids, 5 + i % 12, seed=i) for i, r in enumerate(requests(loaded(family)))]
    same(loaded(family), asked, how, **plain)


def test_values_of_the_generation_config_are_applied(loaded):
    model = loaded("bart")
    own = model.network.generation_config
    before = own.to_dict()
    try:
        own.suppress_tokens, own.begin_suppress_tokens, own.min_length = [10, 40], [50], 6
        own.bad_words_ids, own.eos_token_id = [[60], [70, 71]], [2, 90]
        asked = requests(model)
        result = decode(model, asked, Decoding(), 200, Caps())
        for request, output in zip(asked, result.outputs, strict=True):
            ids = model.network.generate(torch.tensor([request.ids]), max_new_tokens=24, num_beams=1)[0].tolist()[1:]
            end = next((i for i, token in enumerate(ids) if token in (2, 90)), len(ids))
            assert output.ids == ids[:end]
    finally:
        own.update(**before)


def test_a_prefix_is_forced_for_each_row_and_not_returned(loaded):
    model = loaded("nllb")
    codes = model.tokenizer.convert_tokens_to_ids(tiny_seq2seq.LANGUAGES["nllb"])
    asked = [Request(r.ids, 20, (codes[i % 3],)) for i, r in enumerate(requests(model))]
    greedy = same(model, asked, Decoding())
    same(model, asked[:12], Decoding(num_beams=3), num_beams=3)
    other = decode(model, [Request(r.ids, 20, (codes[0],)) for r in asked], Decoding(), 200, Caps()).outputs
    assert greedy != other


def test_stop_tokens_end_a_text_and_are_left_out(loaded):
    model = loaded("t5")
    asked = requests(model)
    free = decode(model, asked, Decoding(), 200, Caps()).outputs
    stop = max(set(free[0].ids + free[5].ids), key=lambda token: sum(token in output.ids for output in free))
    stopped = decode(model, asked, Decoding(stop=(stop,)), 200, Caps()).outputs
    for before, after in zip(free, stopped, strict=True):
        if stop in before.ids:
            assert after == Generation(before.ids[: before.ids.index(stop)], True)
        else:
            assert after == before
    assert any(stop in output.ids for output in free)


def test_finished_rows_are_not_computed(loaded):
    model = loaded("t5")
    result = decode(model, requests(model), Decoding(), 200, Caps())
    new = sum(len(output.ids) + output.finished for output in result.outputs)
    sources = [len(request.ids) for request in requests(model)]
    assert result.tokens == new + sum(sources)
    assert result.padded_tokens - result.tokens < 0.2 * sum(sources), "padding of the sources alone"


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_order_and_rows_are_kept_for_any_token_budget(loaded, data):
    model = loaded("bart")
    pool = requests(model)
    picks = data.draw(st.lists(st.integers(0, len(pool) - 1), max_size=30))
    limits = data.draw(st.lists(st.integers(1, 20), min_size=len(picks), max_size=len(picks)))
    asked = [Request(pool[i].ids, limit) for i, limit in zip(picks, limits, strict=True)]
    result = decode(model, asked, Decoding(), data.draw(st.integers(1, 600)), Caps())
    assert not result.failures
    single = {key: decode(model, [key], Decoding(), 64, Caps()).outputs[0] for key in _distinct(asked)}
    assert result.outputs == [single[_key(request)] for request in asked]


def _key(request: Request) -> Request:
    return Request(tuple(request.ids), request.max_new_tokens)


def _distinct(asked: list[Request]) -> set[Request]:
    return {_key(request) for request in asked}


@pytest.mark.parametrize("where", ["read", "step"])
def test_out_of_memory_halves_the_rows_in_flight_and_lowers_the_limit(loaded, monkeypatch, where):
    model, sizes = loaded("bart"), []
    asked = requests(model)
    clean = decode(model, asked, Decoding(), 400, Caps()).outputs
    whole = getattr(Stepper, where)

    def narrow(self, *arguments):
        rows = len(arguments[-1])
        sizes.append(rows)
        if rows > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, *arguments)

    monkeypatch.setattr(Stepper, where, narrow)
    caps = Caps()
    result = decode(model, asked, Decoding(), 400, caps)
    assert not result.failures
    assert result.outputs == clean
    assert caps.rows(model.max_length) <= 3
    failed = sum(rows > 3 for rows in sizes)
    sizes.clear()
    assert decode(model, asked, Decoding(), 400, caps).outputs == clean
    assert sum(rows > 3 for rows in sizes) < failed


def test_a_row_that_raises_in_a_step_fails_alone(loaded, monkeypatch):
    model = loaded("bart")
    asked = requests(model)
    clean = decode(model, asked, Decoding(), 400, Caps()).outputs
    victim = next(i for i, output in enumerate(clean) if len(output.ids) > 6)
    poison = clean[victim].ids[4]
    hit = {i for i, output in enumerate(clean) if poison in output.ids[:-1]}
    step = Stepper.step

    def fragile(self, flight, tokens):
        if poison in tokens:
            raise RuntimeError("index out of range")
        return step(self, flight, tokens)

    monkeypatch.setattr(Stepper, "step", fragile)
    result = decode(model, asked, Decoding(), 400, Caps())
    assert victim in result.failures
    assert set(result.failures) <= {i for i, output in enumerate(clean) if poison in output.ids}
    assert hit <= set(result.failures) | {i for i in hit if poison not in clean[i].ids}
    for i, output in enumerate(result.outputs):
        assert output == (None if i in result.failures else clean[i])


def test_nan_logits_fail_only_their_row(loaded, monkeypatch):
    model = loaded("t5")
    asked = requests(model)
    clean = decode(model, asked, Decoding(), 400, Caps()).outputs
    read = Stepper.read

    def broken(self, sources, starts):
        prefilled, logits = read(self, sources, starts)
        for row, source in enumerate(sources):
            if source == asked[3].ids:
                logits[row] = torch.nan
        return prefilled, logits

    monkeypatch.setattr(Stepper, "read", broken)
    result = decode(model, asked, Decoding(), 400, Caps())
    assert {i: type(error) for i, error in result.failures.items()} == {3: FloatingPointError}
    assert [o for i, o in enumerate(result.outputs) if i != 3] == [o for i, o in enumerate(clean) if i != 3]


def test_a_lost_device_stops_the_run_without_failing_a_row(loaded, monkeypatch):
    model = loaded("t5")

    class LostError(RuntimeError):
        pass

    def lost(self, flight, tokens):
        raise LostError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch, "AcceleratorError", LostError)
    monkeypatch.setattr(Stepper, "step", lost)
    with pytest.raises(LostError):
        decode(model, requests(model), Decoding(), 400, Caps())


@pytest.mark.parametrize("family", [family for family in tiny_seq2seq.FAMILIES if family != "led"])
@pytest.mark.parametrize("most", [1, 3])
def test_tokens_are_the_same_in_any_number_of_groups(loaded, monkeypatch, family, most):
    model = loaded(family)
    clean = decode(model, requests(model), Decoding(), 400, Caps()).outputs
    monkeypatch.setitem(seq2seq.MOST_GROUPS, "cpu", most)
    assert decode(model, requests(model), Decoding(), 400, Caps()).outputs == clean


def test_an_attention_that_cannot_read_groups_goes_through_generate(writers):
    model = load(ModelRef(str(writers("bart")), device="cpu"), AutoWriter)
    model.network.set_attn_implementation("eager")
    assert not stepper.fits(model)
    same(model, requests(model), Decoding())
