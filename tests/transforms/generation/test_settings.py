"""generation_config.json: every parameter is followed, decided by the task, left out on purpose, or refused."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

from transforms import rehearsal
from transforms.batches import Caps
from transforms.errors import ModelError
from transforms.generation import settings
from transforms.generation.decode import decode
from transforms.generation.request import Request
from transforms.generation.settings import Decoding
from transforms.model import load
from transforms.reference import ModelRef
from transforms.tasks import generate, summarize


def test_every_parameter_of_the_installed_transformers_is_in_one_group():
    groups = (settings.HONOURED, settings.DECIDED_BY_TASK, settings.LEFT_OUT, tuple(settings.REFUSED), settings.OTHERS)
    known = [name for group in groups for name in group]
    assert len(known) == len(set(known))
    there = {name for name in vars(GenerationConfig()) if not name.startswith("_")}
    assert there == set(known), "decide what a new parameter means before it can be ignored"
    assert set(settings.TOKENS) <= there


def folder_with(base, folder, **parameters):
    """A copy of a model whose generation_config.json says more."""
    shutil.copytree(base, folder)
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | parameters))
    return folder


def tried(folder, **options):
    rehearsal.rehearse(ModelRef(str(folder)), "generate", generate.Options(column="text", max_new_tokens=9, **options))


REFUSED = {
    "contrastive search": ({"penalty_alpha": 0.6, "top_k": 4}, r"has penalty_alpha 0.6, which asks for a way"),
    "diverse beams": ({"num_beam_groups": 2, "num_beams": 4, "diversity_penalty": 1.0}, r"has num_beam_groups 2"),
    "forced words": ({"force_words_ids": [[5]], "num_beams": 2}, r"has force_words_ids \[\[5\]\].*remove that key"),
    "layers": ({"dola_layers": "high"}, r"has dola_layers 'high'"),
    "healing": ({"token_healing": True}, r"has token_healing True"),
    "a token that is none": (
        {"suppress_tokens": [7, 99999]},
        r"has suppress_tokens .* 99999 is not one of the model's",
    ),
    "a token by its name": (
        {"forced_eos_token_id": "</s>"},
        r"has forced_eos_token_id '</s>', and '</s>' is not one of",
    ),
    "words that are no lists": ({"bad_words_ids": [5, 6]}, r"(are not valid|cannot be read) \(.*; correct"),
    "a penalty that is none": (
        {"repetition_penalty": -1.0},
        r"(are not valid|cannot be read) \(.*; correct",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unsupported_settings_are_refused_before_weights_load(causal_model, tmp_path, case):
    parameters, message = REFUSED[case]
    with pytest.raises(ModelError, match=message):
        tried(folder_with(causal_model("llama"), tmp_path / "model", **parameters))


@pytest.mark.parametrize(
    "content", ["{", "[]", "", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"]
)
def test_a_damaged_file_is_refused_not_skipped(causal_model, tmp_path, content):
    folder = shutil.copytree(causal_model("llama"), tmp_path / "model")
    (folder / "generation_config.json").write_text(content)
    with pytest.raises(ModelError, match=r"generation_config.json (is|holds)"):
        tried(folder)


def test_settings_that_change_no_token_are_ignored(causal_model, tmp_path):
    more = {"num_return_sequences": 3, "num_beams": 3, "return_dict_in_generate": True, "output_scores": True}
    more |= {"max_time": 0.001, "prompt_lookup_num_tokens": 3, "cache_implementation": "static", "use_cache": False}
    folder = folder_with(causal_model("bloom"), tmp_path / "model", **more)
    tried(folder)
    plain = load(ModelRef(str(causal_model("bloom")), device="cpu"), AutoModelForCausalLM)
    model = load(ModelRef(str(folder), device="cpu"), AutoModelForCausalLM)
    asked = [Request([40, 41, 42 + i], 12) for i in range(3)]
    for how in (Decoding(), Decoding(num_beams=2)):
        assert decode(model, asked, how, 400, Caps()).outputs == decode(plain, asked, how, 400, Caps()).outputs


@pytest.mark.parametrize("family", ["llama", "bart"])
def test_stop_strings_end_a_text_where_generate_ends_it(writers, causal_model, tmp_path, family):
    auto = AutoModelForCausalLM if family == "llama" else AutoModelForSeq2SeqLM
    base = causal_model(family) if family == "llama" else writers(family)
    tokenizer, network = AutoTokenizer.from_pretrained(base), auto.from_pretrained(base).eval()
    plain = load(ModelRef(str(base), device="cpu"), auto)
    texts = ("the cat sat on", "red birds", "a mat and soup with")
    asked = [Request(tokenizer(text)["input_ids"], 14) for text in texts]
    free = [output.ids for output in decode(plain, asked, Decoding(), 400, Caps()).outputs]
    stop = next(text[2:4] for ids in free if len(text := tokenizer.decode(ids, skip_special_tokens=True)) > 6)
    folder = folder_with(base, tmp_path / "model", stop_strings=[stop])
    got = decode(load(ModelRef(str(folder), device="cpu"), auto), asked, Decoding(), 400, Caps())
    assert not got.failures
    how = {"max_new_tokens": 14, "do_sample": False, "stop_strings": [stop], "tokenizer": tokenizer}
    for request, output in zip(asked, got.outputs, strict=True):
        with torch.inference_mode():
            whole = network.generate(torch.tensor([request.ids]), **how)[0].tolist()
        want = whole[1 if family == "bart" else len(request.ids) :]
        wanted, given = (tokenizer.decode(ids, skip_special_tokens=True) for ids in (want, output.ids))
        assert given == wanted
    assert any(len(output.ids) < len(ids) for output, ids in zip(got.outputs, free, strict=True))


def test_a_json_schema_is_refused_together_with_stop_strings_of_the_model(causal_model, tmp_path):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    tried(causal_model("llama"), json_schema=schema)
    with pytest.raises(
        ModelError, match=r"json_schema cannot be combined with the stop_strings in the model's generation_config"
    ):
        tried(folder_with(causal_model("llama"), tmp_path / "model", stop_strings=["}"]), json_schema=schema)


def test_settings_of_an_encoder_decoder_are_checked_too(writers, tmp_path):
    folder = folder_with(writers("bart"), tmp_path / "model", forced_bos_token_id=5000)
    with pytest.raises(ModelError, match="has forced_bos_token_id 5000, and 5000 is not one of the model's"):
        rehearsal.rehearse(ModelRef(str(folder)), "summarize", summarize.Options("text"))
