"""Continuous batching gives what generate() gives one row at a time, whatever rows are beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, GenerationConfig

from tests import tiny_causal
from transforms.batches import Caps
from transforms.generation import causal, lanes
from transforms.generation.decode import Generation, Generations, decode
from transforms.generation.request import Request
from transforms.generation.settings import Decoding
from transforms.model import Model, ModelRef, load

FAMILIES = ["gpt2", "llama", "qwen2", "qwen3", "mistral"]
END = 2


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, causal_model: Callable[[str], Path]) -> Model:
    return load(ModelRef(str(causal_model(request.param))), AutoModelForCausalLM)


@pytest.fixture(scope="module")
def llama(causal_model: Callable[[str], Path]) -> Model:
    return load(ModelRef(str(causal_model("llama"))), AutoModelForCausalLM)


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five lanes, so that rows come and go."""
    monkeypatch.setattr(causal, "ROWS", {"cpu": 5})


def prompts(model: Model, n: int = 26, seed: int = 1, before: str = "") -> list[list[int]]:
    return [model.tokenizer(f"{before}{text} ->")["input_ids"] for text in tiny_causal.sentences(n, seed)]


def alone(model: Model, ids: list[int], max_new_tokens: int = 24, **more: Any) -> list[int]:
    """The new tokens of one row through generate()."""
    with torch.inference_mode():
        whole = model.network.generate(
            torch.tensor([ids]), max_new_tokens=max_new_tokens, **{"do_sample": False, **more}
        )
    new = whole[0, len(ids) :].tolist()
    return new[: new.index(END)] if END in new else new


def run(
    model: Model, ids: list[list[int]], how: Decoding | None = None, limit: int = 24, max_tokens: int = 256
) -> Generations:
    requests = [Request(prompt, limit, seed=sum(prompt)) for prompt in ids]
    return decode(model, requests, how or Decoding(), max_tokens, Caps())


def tokens(generations: Generations) -> list[list[int]]:
    assert not generations.failures
    return [output.ids for output in generations.outputs if output is not None]


@pytest.mark.usefixtures("few_rows")
def test_greedy_gives_the_tokens_of_generate_one_row_at_a_time(model: Model) -> None:
    ids = prompts(model)
    assert lanes.fits(model.network)
    found = run(model, ids)
    assert tokens(found) == [alone(model, prompt) for prompt in ids]
    assert len({len(new) for new in tokens(found)}) > 2


def test_a_text_that_is_cut_is_not_finished(llama: Model) -> None:
    ids = prompts(llama)
    found = run(llama, ids, limit=4)
    assert tokens(found) == [alone(llama, prompt, 4) for prompt in ids]
    assert {(output.finished, len(output.ids) == 4) for output in found.outputs} == {(True, False), (False, True)}


@pytest.mark.usefixtures("few_rows")
def test_a_prefix_that_all_prompts_share_is_computed_once_and_the_texts_are_the_same(model: Model) -> None:
    before = "the cat sat on a mat and ate fish soup with bread : "
    ids = prompts(model, before=before)
    found = run(model, ids)
    assert tokens(found) == [alone(model, prompt) for prompt in ids]
    shared = len(model.tokenizer(before)["input_ids"]) - 1
    assert found.tokens < sum(map(len, ids)) + sum(len(new) for new in tokens(found)) - 20 * shared


def test_prompts_of_one_token_and_equal_prompts_are_generated(llama: Model) -> None:
    ids = [[1], [10, 11], [1], *[prompts(llama, 1)[0]] * 3]
    assert tokens(run(llama, ids)) == [alone(llama, prompt) for prompt in ids]
    assert tokens(run(llama, [[1]])) == [alone(llama, [1])]
    assert tokens(run(llama, [])) == []


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize(
    "options",
    [{"repetition_penalty": 1.7}, {"no_repeat_ngram_size": 2}, {"min_new_tokens": 9}, {"repetition_penalty": 0.8}],
    ids=str,
)
def test_a_processor_sees_the_tokens_of_its_own_row_only(llama: Model, options: dict[str, Any]) -> None:
    ids = prompts(llama)
    found = tokens(run(llama, ids, Decoding(**options)))
    assert found == [alone(llama, prompt, **options) for prompt in ids]
    assert found != tokens(run(llama, ids))


def test_the_models_generation_config_is_applied(causal_model: Callable[[str], Path], tmp_path: Path) -> None:
    own = load(ModelRef(str(causal_model("llama"))), AutoModelForCausalLM)
    own.network.generation_config = GenerationConfig(
        eos_token_id=[END, 9], pad_token_id=0, suppress_tokens=[20, 21], min_length=12
    )
    ids = prompts(own, 20)
    assert tokens(run(own, ids)) == [alone(own, prompt) for prompt in ids]


def test_beams_give_the_tokens_of_generate_one_row_at_a_time(model: Model) -> None:
    ids = prompts(model, 24)
    found = tokens(run(model, ids, Decoding(num_beams=3), limit=12))
    assert found == [alone(model, prompt, 12, num_beams=3) for prompt in ids]


def test_a_model_that_derives_positions_from_padding_goes_through_generate(causal_model: Callable[[str], Path]) -> None:
    bloom = load(ModelRef(str(causal_model("bloom"))), AutoModelForCausalLM)
    assert not lanes.fits(bloom.network)
    ids = prompts(bloom, 20)
    assert tokens(run(bloom, ids)) == [alone(bloom, prompt) for prompt in ids]


@pytest.mark.parametrize("family", tiny_causal.others())
def test_other_families_fit_or_go_through_generate(family: str, llama: Model) -> None:
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(tiny_causal.others()[family]).eval()
    assert lanes.fits(network) == (family not in ("gpt_neo", "mamba"))
    other = replace(llama, network=network, config=network.config)
    ids = prompts(llama, 12)
    assert tokens(run(other, ids, limit=12)) == [alone(other, prompt, 12) for prompt in ids]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chosen=st.lists(st.integers(0, 25), min_size=1, max_size=12),
    rows=st.integers(1, 6),
    max_tokens=st.integers(1, 200),
    how=st.builds(
        Decoding,
        sample=st.booleans(),
        temperature=st.sampled_from([None, 0.7, 1.5]),
        top_k=st.sampled_from([None, 0, 5]),
        top_p=st.sampled_from([None, 0.8]),
    ),
)
def test_a_row_gets_the_same_tokens_in_any_batch_and_order(
    llama: Model, monkeypatch: pytest.MonkeyPatch, chosen: list[int], rows: int, max_tokens: int, how: Decoding
) -> None:
    ids = prompts(llama)
    with monkeypatch.context() as patch:
        patch.setattr(causal, "ROWS", {"cpu": rows})
        together = tokens(run(llama, [ids[i] for i in chosen], how, max_tokens=max_tokens))
    assert together == [tokens(run(llama, [ids[i]], how))[0] for i in chosen]


def test_sampling_depends_on_the_seed_and_not_on_the_run(llama: Model) -> None:
    ids = prompts(llama, 1)[0]
    how = Decoding(sample=True, temperature=1.5, top_k=0)
    first, second = (
        tokens(decode(llama, [Request(ids, 16, seed=seed) for seed in range(20)], how, 256, Caps())) for _ in range(2)
    )
    assert first == second
    assert len(set(map(tuple, first))) > 5


def test_sampled_tokens_equal_those_of_generate_for_the_row_alone(model: Model) -> None:
    ids = prompts(model, 12)
    found = tokens(run(model, ids, Decoding(sample=True, temperature=1.3, top_k=20, top_p=0.9)))
    expected = []
    for prompt in ids:
        torch.manual_seed(sum(prompt))
        expected.append(alone(model, prompt, do_sample=True, temperature=1.3, top_k=20, top_p=0.9))
    assert found == expected


@pytest.mark.usefixtures("few_rows")
def test_lanes_become_narrower_and_more_when_the_long_rows_are_done(
    llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = prompts(llama, 30)
    long = [llama.tokenizer("the cat sat on a mat and ate fish soup " * 20)["input_ids"][:200]]
    monkeypatch.setattr(causal, "_free_bytes", lambda device: 2 * 224 * lanes.token_bytes(llama.network))
    resized = []
    resize = lanes.Lanes.resize
    monkeypatch.setattr(lanes.Lanes, "resize", lambda self, *args: (resized.append(args), resize(self, *args))[1])
    assert tokens(run(llama, long + ids)) == [alone(llama, prompt) for prompt in long + ids]
    assert resized
    assert resized[0][0] == 5


@pytest.fixture
def breaks(llama: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[Any], None]], None]]:
    """Let a function look at the arguments of every forward pass."""
    forward = causal.forward

    def install(look: Callable[[Any], None]) -> None:
        def watched(network: Any, rows: Any, first: int, ids: Any, columns: Any) -> Any:
            look(ids)
            return forward(network, rows, first, ids, columns)

        monkeypatch.setattr(causal, "forward", watched)

    return install


def test_out_of_memory_halves_the_rows_and_lowers_the_limit(llama: Model, breaks: Callable[..., None]) -> None:
    ids = prompts(llama)

    def look(batch: Any) -> None:
        if len(batch) > 6:
            raise torch.OutOfMemoryError("too many rows")

    breaks(look)
    caps = Caps()
    found = decode(llama, [Request(prompt, 24) for prompt in ids], Decoding(), 256, caps)
    assert tokens(found) == [alone(llama, prompt) for prompt in ids]
    assert 1 <= min(caps.rows_by_length.values()) <= 6


def test_a_row_that_makes_the_model_raise_fails_alone(llama: Model, breaks: Callable[..., None]) -> None:
    ids = prompts(llama)

    def look(batch: Any) -> None:
        if (batch == 3).any():
            raise RuntimeError("poison")

    poison = [*ids[7][:-1], 3, ids[7][-1]]
    breaks(look)
    found = run(llama, [*ids[:7], poison, *ids[8:]])
    assert {i: str(error) for i, error in found.failures.items()} == {7: "poison"}
    others = [i for i in range(len(ids)) if i != 7]
    assert [found.outputs[i].ids for i in others] == [alone(llama, ids[i]) for i in others]
    assert found.outputs[7] is None


def test_a_nan_row_fails_alone_and_leaves_no_nan_in_its_lane(
    causal_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned = load(ModelRef(str(causal_model("llama"))), AutoModelForCausalLM)
    ids = prompts(poisoned)
    expected = [alone(poisoned, prompt) for prompt in ids]
    with torch.no_grad():
        poisoned.network.get_input_embeddings().weight[5] = torch.nan
    monkeypatch.setattr(causal, "ROWS", {"cpu": 3})
    bad = [4, 11, 12]
    found = run(poisoned, [[*prompt, 5] if i in bad else prompt for i, prompt in enumerate(ids)])
    assert sorted(found.failures) == bad
    assert all(isinstance(error, FloatingPointError) for error in found.failures.values())
    assert [o and o.ids for o in found.outputs] == [None if i in bad else e for i, e in enumerate(expected)]


def test_a_lost_device_stops_the_run(llama: Model, breaks: Callable[..., None]) -> None:
    def look(batch: Any) -> None:
        raise torch.AcceleratorError("device lost")

    breaks(look)
    with pytest.raises(torch.AcceleratorError):
        run(llama, prompts(llama, 3))


class Counter:
    """Ends a text after three tokens."""

    def __init__(self) -> None:
        self.seen = 0

    def allowed(self) -> None:
        return None

    def accept(self, token: int) -> bool:
        self.seen += 1
        return self.seen == 3


def test_a_guide_ends_its_own_row_only(llama: Model) -> None:
    ids = prompts(llama, 12)
    requests = [Request(prompt, 24, guide=Counter if i % 2 else None) for i, prompt in enumerate(ids)]
    found = decode(llama, requests, Decoding(), 256, Caps())
    expected = [alone(llama, prompt) for prompt in ids]
    assert tokens(found) == [new[:3] if i % 2 else new for i, new in enumerate(expected)]
    assert isinstance(found.outputs[1], Generation)
