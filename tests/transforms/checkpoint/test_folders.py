"""A damaged, incomplete or unfit model folder is refused without loading weights, by file and fix."""

import json
import shutil
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentencepiece import SentencePieceTrainer
from transformers import CONFIG_MAPPING, AutoTokenizer, BertTokenizer

from tests import tiny
from transforms import rehearsal
from transforms.checkpoint import tokenizer as tokenizers
from transforms.errors import ModelError, SpecError
from transforms.reference import ModelRef
from transforms.tasks import answer, classify, embed, fill_mask, generate, ner, summarize, translate

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 4096\n"


def tried(folder, adapter=None, task="classify", options=None):
    rehearsal.rehearse(ModelRef(str(folder), adapter and str(adapter)), task, options or classify.Options("text"))


def edit(file, **changes):
    """Set keys of a JSON file; None takes one away."""
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def cut(file, share):
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])


def retype(folder, dtype):
    weights = load_file(folder / "model.safetensors")
    save_file({key: value.to(dtype) for key, value in weights.items()}, folder / "model.safetensors", {"format": "pt"})


def without(file, part):
    weights = load_file(file)
    save_file({key: value for key, value in weights.items() if part not in key}, file, {"format": "pt"})


def shard(folder, *lost):
    """Two weight files and an index; some of them lost."""
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    parts = {f"model-{i}.safetensors": names[i - 1 :: 2] for i in (1, 2)}
    places = {name: part for part, inside in parts.items() for name in inside}
    for part, inside in parts.items():
        if part not in lost:
            save_file({name: weights[name] for name in inside}, folder / part, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / "model.safetensors").unlink()


def pickled(folder, content=None):
    file = folder / "pytorch_model.bin"
    torch.save(load_file(folder / "model.safetensors") if content is None else content, file)
    (folder / "model.safetensors").unlink()
    return file


def lying_header(file):
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    name = next(key for key in header if key != "__metadata__")
    header[name]["shape"] = [7, *header[name]["shape"]]
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def no_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


def word_list(folder, words):
    no_tokenizer(folder)
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words))


def larger_tokenizer(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["oneword", "another"])
    tokenizer.save_pretrained(folder)


FOLDERS = {
    "config is a pointer": (
        lambda f: (f / "config.json").write_text(POINTER),
        r"config.json is a Git LFS pointer, not",
    ),
    "config is empty": (lambda f: (f / "config.json").write_text(""), r"config.json is empty and should hold JSON"),
    "config is not JSON": (
        lambda f: (f / "config.json").write_text("{'a': 1}"),
        r"config.json is not JSON \(.*copy it",
    ),
    "config is a list": (
        lambda f: (f / "config.json").write_text("[]"),
        r"config.json holds a list, and a JSON object",
    ),
    "config is binary": (lambda f: (f / "config.json").write_bytes(b"\x80\xff{}"), r"config.json is not JSON"),
    "no model_type": (lambda f: edit(f / "config.json", model_type=None), r"config.json has no model_type; add it"),
    "unknown model_type": (
        lambda f: edit(f / "config.json", model_type="brt"),
        r"model_type 'brt', which transformers 5",
    ),
    "model_type is a list": (lambda f: edit(f / "config.json", model_type=["bert"]), r"model_type \['bert'\], which"),
    "remote code": (
        lambda f: edit(f / "config.json", model_type="mine", auto_map={"AutoConfig": "a.B"}),
        r"needs code from its own repository \(auto_map\), which Nightscribe does not run",
    ),
    "labels in a list": (lambda f: edit(f / "config.json", id2label=["a", "b", "c"]), r"id2label that is no object"),
    "labels by words": (lambda f: edit(f / "config.json", id2label={"a": 0}), r"number the labels 0, 1, 2"),
    "labels from one": (
        lambda f: edit(f / "config.json", id2label={"1": "a", "2": "b", "3": "c"}),
        r"id2label with the keys 1, 2, 3; number the labels 0",
    ),
    "fewer labels than outputs": (
        lambda f: edit(f / "config.json", id2label={"0": "a", "1": "b"}, label2id={"a": 0, "b": 1}),
        r"config.json has 2 labels, and the stored classifier.(weight|bias) has outputs for 3; give id2label one label",
    ),
    "num_labels and id2label differ": (
        lambda f: edit(f / "config.json", num_labels=5),
        r"num_labels 5, and 3 labels in",
    ),
    "num_labels is a word": (
        lambda f: edit(f / "config.json", num_labels="three"),
        r"num_labels 'three'; give a whole",
    ),
    "another width": (
        lambda f: edit(f / "config.json", hidden_size=48),
        r"config.json describes another network .* is .*32.* in the weights and .*48.* by the configuration",
    ),
    "heads do not divide the width": (lambda f: edit(f / "config.json", num_attention_heads=5), r"describe.* network"),
    "more layers than are stored": (lambda f: edit(f / "config.json", num_hidden_layers=3), r"has no weights for bert"),
    "width is a word": (lambda f: edit(f / "config.json", hidden_size="wide"), r"config.json cannot be read by"),
    "another vocabulary size": (lambda f: edit(f / "config.json", vocab_size=10), r"describes another network"),
    "weights are a pointer": (
        lambda f: (f / "model.safetensors").write_text(POINTER),
        r"model.safetensors is a Git LFS pointer, not weights; run `git lfs pull` in ",
    ),
    "weights are missing": (
        lambda f: (f / "model.safetensors").unlink(),
        r"has no weights: neither model.safetensors nor pytorch_model.bin is there; copy",
    ),
    "weights of another library": (
        lambda f: (f / "model.safetensors").rename(f / "tf_model.h5"),
        r"has no weights: .* only tf_model.h5 \(for TensorFlow\)",
    ),
    "weights are empty": (lambda f: (f / "model.safetensors").write_bytes(b""), r"model.safetensors is empty"),
    "weights are cut": (lambda f: cut(f / "model.safetensors", 0.7), r"is truncated: it has [\d,]+ of [\d,]+ bytes"),
    "weights are cut in the header": (
        lambda f: cut(f / "model.safetensors", 0.001),
        r"model.safetensors is (trunc|not)",
    ),
    "weights are a web page": (
        lambda f: (f / "model.safetensors").write_text("<!DOCTYPE html><html>Not found</html>"),
        r"model.safetensors is not a safetensors file",
    ),
    "header lies": (lambda f: lying_header(f / "model.safetensors"), r"model.safetensors is damaged: its header"),
    "weights in eight bits": (lambda f: retype(f, torch.int8), r"as I8, and config.json has no quantization_config"),
    "quantised weights": (
        lambda f: edit(f / "config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        r"says that the weights are quantised \(gptq\), which cannot be read here .*; choose the version",
    ),
    "a shard is lost": (
        lambda f: shard(f, "model-2.safetensors"),
        r"1 of the 2 weight files .* \(model-2.safetensors\)",
    ),
    "an index without files": (
        lambda f: (shard(f), (f / "model.safetensors.index.json").write_text('{"weight_map": {}}')),
        r"index.json has no weight_map",
    ),
    "a shard is a pointer": (
        lambda f: (shard(f), (f / "model-1.safetensors").write_text(POINTER)),
        r"model-1.safetensors is a Git LFS pointer",
    ),
    "a shard of another model": (
        lambda f: (shard(f), save_file({"x": torch.ones(2)}, f / "model-1.safetensors")),
        r"says that model-1.safetensors holds .*, which it does not",
    ),
    "a pickle is cut": (lambda f: cut(pickled(f), 0.5), r"pytorch_model.bin cannot be read as PyTorch weights"),
    "a pickle is a pointer": (lambda f: pickled(f).write_text(POINTER), r"pytorch_model.bin is a Git LFS pointer"),
    "a pickle of code": (
        lambda f: pickled(f, {"a": tiny.texts}),
        r"pytorch_model.bin cannot be read as PyTorch weights",
    ),
    "a pickle of a list": (lambda f: pickled(f, [torch.ones(2)]), r"pytorch_model.bin holds list, and tensors by name"),
    "a head is missing": (
        lambda f: without(f / "model.safetensors", "classifier"),
        r"has no weights for classifier.bias, classifier.weight; it was not trained for this task",
    ),
    "no tokenizer": (no_tokenizer, r"no complete tokenizer: vocab.txt \(or tokenizer.json\) is missing; copy"),
    "no vocabulary": (lambda f: (f / "tokenizer.json").unlink(), r"no complete tokenizer|cannot be loaded"),
    "tokenizer is a pointer": (
        lambda f: (f / "tokenizer.json").write_text(POINTER),
        r"tokenizer.json is a Git LFS pointer",
    ),
    "tokenizer is cut": (lambda f: cut(f / "tokenizer.json", 0.5), r"tokenizer.json is not JSON"),
    "tokenizer is empty": (lambda f: (f / "tokenizer.json").write_text(""), r"tokenizer.json is empty"),
    "tokenizer is another object": (
        lambda f: (f / "tokenizer.json").write_text("{}"),
        r"the tokenizer in .* cannot be",
    ),
    "tokenizer_config is cut": (lambda f: cut(f / "tokenizer_config.json", 0.5), r"tokenizer_config.json is not JSON"),
    "word list is empty": (lambda f: word_list(f, []), r"vocab.txt is empty and should hold a tokenizer's vocabulary"),
    "word list of special tokens": (
        lambda f: word_list(f, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]),
        r"has no words in its vocabulary, so that every word would be unknown",
    ),
    "tokenizer is larger than the embedding": (
        larger_tokenizer,
        r"has token 'another' at 901, and the model has embeddings for 900; copy the tokenizer that belongs",
    ),
}


@pytest.mark.parametrize("damage", FOLDERS)
def test_a_damaged_folder_is_refused_by_file_and_fix(models, tmp_path, damage):
    folder = tmp_path / "model"
    shutil.copytree(models / "sentiment", folder)
    change, message = FOLDERS[damage]
    change(folder)
    with pytest.raises(ModelError, match=message) as caught:
        tried(folder)
    said = str(caught.value)
    assert "\n" not in said
    assert str(folder) in said
    assert ";" in said, "what to do about it is missing"


@pytest.mark.parametrize("kind", ["whole", "sharded", "pickled", "word list", "bfloat16"])
def test_a_complete_folder_is_accepted_in_every_form(models, tmp_path, kind):
    folder = tmp_path / "model"
    shutil.copytree(models / "sentiment", folder)
    match kind:
        case "sharded":
            shard(folder)
        case "pickled":
            pickled(folder)
        case "word list":
            vocabulary = AutoTokenizer.from_pretrained(folder).get_vocab()
            word_list(folder, sorted(vocabulary, key=vocabulary.get))
        case "bfloat16":
            retype(folder, torch.bfloat16)
    tried(folder)


def test_a_complete_folder_is_accepted_for_every_task(models, writers, causal_model):
    tried(models / "ner", task="ner", options=ner.Options("text"))
    tried(models / "answer", task="answer", options=answer.Options("text", question="Who?"))
    tried(models / "mlm", task="fill_mask", options=fill_mask.Options("text"))
    tried(models / "mlm", task="embed", options=embed.Options("text"))
    tried(writers("t5"), task="summarize", options=summarize.Options("text"))
    tried(writers("nllb"), task="translate", options=_languages("eng_Latn", "deu_Latn"))
    tried(causal_model("llama"), task="generate", options=generate.Options(column="text", max_new_tokens=9))


def _languages(source, target):
    return translate.Options("text", source_language=source, target_language=target)


def test_options_that_the_model_contradicts_are_refused_without_weights(models, writers, causal_model):
    with pytest.raises(ModelError, match="'fra_Latn'"):
        tried(writers("nllb"), task="translate", options=_languages("eng_Latn", "fra_Latn"))
    options = generate.Options(column="text", max_new_tokens=9, chat="always")
    with pytest.raises(ModelError, match="no chat template"):
        tried(causal_model("llama"), task="generate", options=options)
    with pytest.raises(ModelError, match="shorten the prompt or lower max_new_tokens"):
        tried(causal_model("llama"), task="generate", options=generate.Options(column="text", max_new_tokens=256))
    with pytest.raises(ModelError, match=r"targets?"):
        tried(models / "mlm", task="fill_mask", options=fill_mask.Options("text", targets=["notoneword"]))


def test_more_labels_than_the_model_has_are_refused_at_plan_time(models):
    with pytest.raises(SpecError, match="top_k is 4, and the model has 3 labels; give at most that, or all"):
        tried(models / "sentiment", options=classify.Options("text", top_k=4))


def test_a_broken_chat_template_is_refused_unless_it_is_not_used(causal_model, tmp_path):
    folder = shutil.copytree(causal_model("chat"), tmp_path / "model")
    (folder / "chat_template.jinja").write_text("{% for message in messages %}")
    with pytest.raises(ModelError, match=r"chat template cannot be used \(TemplateSyntaxError.*set chat: never"):
        tried(folder, task="generate", options=generate.Options(column="text", max_new_tokens=9))
    tried(folder, task="generate", options=generate.Options(column="text", max_new_tokens=9, chat="never"))


SENTENCE_FOLDERS = {
    "modules.json is cut": (lambda f: (f / "modules.json").write_text("[{"), r"modules.json .* cannot be read"),
    "modules.json is empty": (lambda f: (f / "modules.json").write_text(""), r"modules.json is empty"),
    "a step is lost": (
        lambda f: shutil.rmtree(f / "2_Dense"),
        r"modules.json .* cannot be read .*copy",
    ),
    "pooling is a pointer": (lambda f: (f / "1_Pooling/config.json").write_text(POINTER), r"is a Git LFS pointer"),
    "weights are lost": (lambda f: (f / "2_Dense/model.safetensors").unlink(), r"2_Dense' has no weights"),
    "weights are a pointer": (lambda f: (f / "2_Dense/model.safetensors").write_text(POINTER), r"is a Git LFS pointer"),
    "weights are of another width": (
        lambda f: edit(f / "2_Dense/config.json", out_features=4),
        r"2_Dense has weights of another shape than its config.json says",
    ),
}


@pytest.mark.parametrize("damage", SENTENCE_FOLDERS)
def test_a_damaged_sentence_transformers_folder_is_refused(models, tmp_path, damage):
    folder = shutil.copytree(models / "mlm", tmp_path / "model")
    steps = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense")]
    modules = [
        {"idx": i, "path": path, "type": f"sentence_transformers.{kind}"} for i, (kind, path) in enumerate(steps)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    for place, config in {
        "1_Pooling": {"pooling_mode": "mean"},
        "2_Dense": {"in_features": 32, "out_features": 8},
    }.items():
        (folder / place).mkdir()
        (folder / place / "config.json").write_text(json.dumps(config))
    dense = {"linear.weight": torch.ones(8, 32), "linear.bias": torch.ones(8)}
    save_file(dense, folder / "2_Dense/model.safetensors")
    tried(folder, task="embed", options=embed.Options("text"))
    change, message = SENTENCE_FOLDERS[damage]
    change(folder)
    with pytest.raises(ModelError, match=message):
        tried(folder, task="embed", options=embed.Options("text"))


def test_sentencepiece_and_byte_pair_tokenizers_need_all_their_files(models, writers, tmp_path):
    marian = shutil.copytree(writers("marian"), tmp_path / "marian")
    no_tokenizer(marian)
    with pytest.raises(ModelError, match=r"source.spm and target.spm and vocab.json \(or tokenizer.json\) are missing"):
        tried(marian, task="summarize", options=summarize.Options("text"))
    roberta = shutil.copytree(models / "ner_bytes", tmp_path / "roberta")
    no_tokenizer(roberta)
    (roberta / "vocab.json").write_text(json.dumps({"<s>": 0, "a": 1}))
    with pytest.raises(ModelError, match=r"no complete tokenizer: merges.txt \(or tokenizer.json\) is missing"):
        tried(roberta, task="ner", options=ner.Options("text"))


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A small SentencePiece model."""
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "texts.txt").write_text("\n".join(tiny.texts(200, seed=4)[len(tiny.HARD) :]))
    SentencePieceTrainer.train(
        input=str(folder / "texts.txt"), model_prefix=str(folder / "pieces"), vocab_size=300, minloglevel=2
    )
    return folder / "pieces.model"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("t5", "spiece.model"),
        ("xlnet", "spiece.model"),
        ("xlm-roberta", "sentencepiece.bpe.model"),
        ("llama", "tokenizer.model"),
    ],
)
def test_a_sentencepiece_model_alone_is_a_tokenizer(pieces, tmp_path, kind, name):
    config = CONFIG_MAPPING[kind]()
    config.save_pretrained(tmp_path)
    shutil.copy(pieces, tmp_path / name)
    tokenizer = tokenizers.read(str(tmp_path), config)
    words = "the cat sat"
    assert tokenizer.decode(tokenizer(words)["input_ids"], skip_special_tokens=True).strip() != ""
    assert len(tokenizer) >= 300
    cut(tmp_path / name, 0.5)
    with pytest.raises(ModelError, match=rf"{name} is not a SentencePiece model; copy it again"):
        tokenizers.read(str(tmp_path), config)
    (tmp_path / name).write_text(POINTER)
    with pytest.raises(ModelError, match=rf"{name} is a Git LFS pointer, not a tokenizer's vocabulary"):
        tokenizers.read(str(tmp_path), config)


def test_a_word_list_tokenizer_is_read_as_it_is(models, tmp_path):
    vocabulary = AutoTokenizer.from_pretrained(models / "sentiment").get_vocab()
    folder = shutil.copytree(models / "sentiment", tmp_path / "model")
    word_list(folder, sorted(vocabulary, key=vocabulary.get))
    assert BertTokenizer.from_pretrained(folder).get_vocab() == vocabulary


@pytest.mark.parametrize("length", ["long", 0, 2, -5])
def test_a_longest_text_that_leaves_no_room_for_a_token_is_refused(models, tmp_path, length):
    folder = shutil.copytree(models / "sentiment", tmp_path / "model")
    edit(folder / "tokenizer_config.json", model_max_length=length)
    with pytest.raises(ModelError, match=f"has model_max_length {length!r}; give a whole number"):
        tried(folder)
