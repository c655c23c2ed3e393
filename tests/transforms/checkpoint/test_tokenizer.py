"""A model folder with a damaged, incomplete or unfit tokenizer is refused by file and fix."""

import json
import shutil

import pytest
from sentencepiece import SentencePieceTrainer
from transformers import CONFIG_MAPPING, AutoTokenizer, BertTokenizer

from tests import tiny
from tests.model_folders import (
    POINTER,
    assert_damage_is_refused,
    cut,
    edit,
    rehearse,
    remove_tokenizer,
    write_word_list,
)
from transforms.checkpoint import tokenizer as tokenizers
from transforms.errors import ModelError
from transforms.tasks import generate, ner, summarize


def larger_tokenizer(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["oneword", "another"])
    tokenizer.save_pretrained(folder)


TOKENIZERS = {
    "no tokenizer": (remove_tokenizer, r"no complete tokenizer: vocab.txt \(or tokenizer.json\) is missing; copy"),
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
    "word list is empty": (
        lambda f: write_word_list(f, []),
        r"vocab.txt is empty and should hold a tokenizer's vocabulary",
    ),
    "word list of special tokens": (
        lambda f: write_word_list(f, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]),
        r"has no words in its vocabulary, so that every word would be unknown",
    ),
    "tokenizer is larger than the embedding": (
        larger_tokenizer,
        r"has token 'another' at 901, and the model has embeddings for 900; copy the tokenizer that belongs",
    ),
}


@pytest.mark.parametrize("damage", TOKENIZERS)
def test_a_damaged_tokenizer_is_refused_by_file_and_fix(models, tmp_path, damage):
    assert_damage_is_refused(models / "sentiment", tmp_path / "model", *TOKENIZERS[damage])


def test_a_broken_chat_template_is_refused_unless_it_is_not_used(causal_model, tmp_path):
    folder = shutil.copytree(causal_model("chat"), tmp_path / "model")
    (folder / "chat_template.jinja").write_text("{% for message in messages %}")
    with pytest.raises(ModelError, match=r"chat template cannot be used \(TemplateSyntaxError.*set chat: never"):
        rehearse(folder, task="generate", options=generate.Options(column="text", max_new_tokens=9))
    rehearse(folder, task="generate", options=generate.Options(column="text", max_new_tokens=9, chat="never"))


def test_sentencepiece_and_byte_pair_tokenizers_need_all_their_files(models, writers, tmp_path):
    marian = shutil.copytree(writers("marian"), tmp_path / "marian")
    remove_tokenizer(marian)
    with pytest.raises(ModelError, match=r"source.spm and target.spm and vocab.json \(or tokenizer.json\) are missing"):
        rehearse(marian, task="summarize", options=summarize.Options("text"))
    roberta = shutil.copytree(models / "ner_bytes", tmp_path / "roberta")
    remove_tokenizer(roberta)
    (roberta / "vocab.json").write_text(json.dumps({"<s>": 0, "a": 1}))
    with pytest.raises(ModelError, match=r"no complete tokenizer: merges.txt \(or tokenizer.json\) is missing"):
        rehearse(roberta, task="ner", options=ner.Options("text"))


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
    write_word_list(folder, sorted(vocabulary, key=vocabulary.get))
    assert BertTokenizer.from_pretrained(folder).get_vocab() == vocabulary


@pytest.mark.parametrize("length", ["long", 0, 2, -5])
def test_a_model_max_length_without_room_for_a_token_is_refused(models, tmp_path, length):
    folder = shutil.copytree(models / "sentiment", tmp_path / "model")
    edit(folder / "tokenizer_config.json", model_max_length=length)
    with pytest.raises(ModelError, match=f"has model_max_length {length!r}; give a whole number"):
        rehearse(folder)
