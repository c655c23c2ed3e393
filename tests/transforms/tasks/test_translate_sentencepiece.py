"""The tokenizers that opus-mt and M2M100 repositories bring, which need sentencepiece and have no tokenizer.json."""

import json
from pathlib import Path

import pytest
import sentencepiece
import torch
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
)

from tests import tiny, tiny_seq2seq
from tests.transforms.tasks.test_translate import annotate, plain

TEXTS = [text for text in tiny.texts(40) if len(text) < 40]
SPECIAL = ["</s>", "<unk>", "<pad>"]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory) -> Path:
    """A SentencePiece model trained on invented sentences."""
    folder = tmp_path_factory.mktemp("spm")
    (folder / "texts").write_text("\n".join(tiny.texts(300, seed=9)[len(tiny.HARD) :]))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "texts"), model_prefix=str(folder / "source"), vocab_size=300, minloglevel=2
    )
    return folder / "source.model"


def vocabulary(pieces: Path, first: list[str]) -> dict[str, int]:
    processor = sentencepiece.SentencePieceProcessor(model_file=str(pieces))
    own = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    return {token: i for i, token in enumerate([*first, *(token for token in own if token not in first)])}


def sizes(vocab: dict[str, int]) -> dict[str, object]:
    ids = {"pad_token_id": vocab["<pad>"], "eos_token_id": vocab["</s>"], "bos_token_id": vocab["</s>"]}
    return tiny_seq2seq.SIZES | ids | {"vocab_size": len(vocab)}


@pytest.fixture(scope="module")
def marian(pieces, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("marian")
    vocab = vocabulary(pieces, SPECIAL)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    tokenizer = MarianTokenizer(str(pieces), str(pieces), str(folder / "vocab.json"), model_max_length=48)
    torch.manual_seed(1)
    config = MarianConfig(**sizes(vocab) | {"decoder_start_token_id": vocab["<pad>"], "max_position_embeddings": 64})
    network = MarianMTModel(config)
    network.generation_config.max_length = 24
    network.generation_config.bad_words_ids = [[vocab["<pad>"]]]
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def m2m100(pieces, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("m2m100")
    vocab = vocabulary(pieces, ["<s>", "<pad>", "</s>", "<unk>"])
    (folder / "vocab.json").write_text(json.dumps(vocab))
    tokenizer = M2M100Tokenizer(str(folder / "vocab.json"), str(pieces), model_max_length=48)
    torch.manual_seed(2)
    words = sizes(vocab) | {"vocab_size": len(vocab) + 128, "decoder_start_token_id": vocab["</s>"]}
    network = M2M100ForConditionalGeneration(M2M100Config(**words | {"max_position_embeddings": 64}))
    network.generation_config.max_length = 24
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_marian_repository_translates_as_one_text_at_a_time_does(marian):
    want = plain(marian, TEXTS)
    assert annotate(marian, texts=TEXTS).values.to_pylist() == want
    assert len(set(want)) > 2


def test_texts_that_a_tokenizer_without_tokenizer_json_has_cut_are_counted(marian):
    tokenizer = MarianTokenizer.from_pretrained(marian)
    assert not tokenizer.is_fast
    texts = [" ".join(["a"] * n) + end for n in range(20, 28) for end in ("", ".", "..")]
    lengths = [len(ids) for ids in tokenizer(texts, verbose=False)["input_ids"]]
    assert min(lengths) < 48 < max(lengths)
    assert 48 in lengths
    got = annotate(marian, texts=texts, long_text="truncate", max_new_tokens=2)
    assert got.cut_at.tolist() == [48 if length > 48 else 0 for length in lengths]


def test_an_m2m100_repository_takes_its_languages_from_the_rows(m2m100):
    codes = ["en", "de", "fr"]
    source, target = ([codes[(i // step) % 3] for i in range(len(TEXTS))] for step in (1, 3))
    got = annotate(
        m2m100,
        {"from": source, "to": target},
        TEXTS,
        source_language_column="from",
        target_language_column="to",
    )
    tokens = [f"__{code}__" for code in target]
    # The tokenizer shows the language token that generate() was made to begin with; it is no part of the text.
    written = zip(plain(m2m100, TEXTS, source=source, target=tokens), tokens, strict=True)
    want = [text.removeprefix(token).strip() for text, token in written]
    assert got.values.to_pylist() == want
    assert len(set(want)) > 2
