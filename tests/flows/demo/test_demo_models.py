"""A small training run learns, once."""

import re
from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from flows.demo import fit, models
from flows.demo.lake import GOLD_FILE, write_lake
from flows.demo.models import MAX_TOKENS, Course, Recipe, train_models
from flows.demo.score import score
from transforms.model import ModelRef, load
from transforms.tasks import classify, ner

BRIEF = Course((256,), ())
TINY = Recipe(classify=replace(BRIEF, dropout=0.1), ner=BRIEF, vocabulary=400, hidden=16, layers=1, heads=2)


@pytest.fixture(scope="module")
def small_lake(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    write_lake(folder, rows=100)
    return folder


def annotate(task, folder, texts, **options):
    model = load(ModelRef(str(folder), device="cpu"), task.ARCHITECTURE)
    return task.load(task.Options("text", **options), model)(pa.record_batch({"text": texts})).values


def test_the_models_do_better_than_the_majority_class_on_rows_they_never_saw(lake, trained):
    gold = pq.read_table(lake / GOLD_FILE).filter(pc.field("split") == "heldout")
    reviews = ds.dataset(lake / "reviews").to_table(["id", "text"])
    texts = reviews["text"].take(pc.index_in(gold["id"], reviews["id"].combine_chunks())).combine_chunks()
    sentiment = annotate(classify, trained.classify, texts)
    entities = annotate(ner, trained.ner, texts, long_text="truncate")
    got = score(pa.table({"id": gold["id"], "sentiment": sentiment, "entities": entities}), gold)
    majority = max(Counter(gold["sentiment"].drop_null().to_pylist()).values()) / got.rows
    assert got.accuracy > majority + 0.05
    assert got.entity_f1 > 0.3


def test_the_auto_classes_load_what_was_saved(trained):
    classifier = AutoModelForSequenceClassification.from_pretrained(trained.classify)
    recogniser = AutoModelForTokenClassification.from_pretrained(trained.ner)
    assert list(classifier.config.id2label.values()) == ["negative", "neutral", "positive"]
    assert list(recogniser.config.id2label.values())[:3] == ["O", "B-PERSON", "I-PERSON"]
    assert classifier.config.max_position_embeddings == MAX_TOKENS
    assert (trained.classify / "model.safetensors").is_file()


def test_the_tokenizer_is_cased_and_keeps_accents_and_combining_marks(trained):
    tokenizer = AutoTokenizer.from_pretrained(trained.ner)
    assert tokenizer.model_max_length == MAX_TOKENS
    text = "Zoé à Genève: le son, e\u0301"
    encoded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    pieces = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    cut = [text[start:end] for start, end in encoded["offset_mapping"]]
    assert [piece.removeprefix("##") for piece in pieces if piece != "[UNK]"] == [
        piece for piece, token in zip(cut, pieces, strict=True) if token != "[UNK]"
    ]
    assert tokenizer.tokenize("son") != tokenizer.tokenize("Son")


def test_a_second_call_finds_the_models_of_the_first(small_lake, tmp_path, monkeypatch):
    said = []
    first = train_models(small_lake, tmp_path, recipe=TINY, progress=said.append)
    for name in ("classify", "ner"):
        lines = [line for line in said if line.startswith(f"training {name}: ")]
        assert re.fullmatch(rf"training {name}: \d+ rows, about \d+ steps in \d+ epochs", lines[0])
        assert lines[1].startswith(f"training {name}: epoch 1 of ")
    monkeypatch.setattr(models, "_train_both", lambda *_: pytest.fail("trained again"))
    assert train_models(small_lake, tmp_path, recipe=TINY) == first


def test_a_long_epoch_says_at_which_step_it_is(small_lake, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(fit, "SAY_EVERY_S", 0.0)
    train_models(small_lake, tmp_path, recipe=TINY, progress=said.append)
    steps = [line for line in said if re.fullmatch(r"training ner: epoch 1 of \d+, step \d+ of \d+", line)]
    told = re.search(r"training ner: .* about (\d+) steps", "\n".join(said))
    taken = [line for line in said if re.match("training ner: .* step ", line)]
    assert steps
    assert len(taken) == pytest.approx(int(told[1]), rel=0.2)


def test_another_lake_or_recipe_makes_other_models(small_lake, tmp_path):
    other = tmp_path / "other"
    write_lake(other, rows=100, seed=8)
    made = {
        train_models(small_lake, tmp_path, recipe=TINY).ner,
        train_models(other, tmp_path, recipe=TINY).ner,
        train_models(small_lake, tmp_path, recipe=replace(TINY, seed=8)).ner,
    }
    assert len(made) == 3


def test_training_twice_gives_the_same_weights_and_leaves_the_caller_s_randomness_alone(small_lake, tmp_path):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    made = [train_models(small_lake, tmp_path / name, recipe=TINY) for name in "ab"]
    assert torch.equal(torch.random.get_rng_state(), before)
    for task in ("classify", "ner"):
        first, second = ((getattr(m, task) / "model.safetensors").read_bytes() for m in made)
        assert first == second


def test_an_interrupted_training_leaves_no_model(small_lake, tmp_path, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(models.BertForSequenceClassification, "save_pretrained", die)
        with pytest.raises(KeyboardInterrupt):
            train_models(small_lake, tmp_path, recipe=TINY)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []
    made = train_models(small_lake, tmp_path, recipe=TINY)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", made.ner.parent.name]
