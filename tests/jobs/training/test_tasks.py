"""An adapter for entities is trained, and the transforms of the nightly job load it."""

from jobs.evaluation.predict import predict
from jobs.training import ner
from tests.jobs.training import made


def test_an_adapter_for_entities_is_loaded_with_its_tags(tmp_path, models):
    fast = made.FAST | {"num_train_epochs": 6, "learning_rate": 5e-3}
    rows, result = made.trained(tmp_path, "ner", models / "mlm", made.entities(), training=fast)
    assert result.labels == ["O", "B-ORG", "I-ORG", "B-PER", "I-PER"]
    found = predict("ner", models / "mlm", result.folder, rows.holdout, {"dtype": "float32"})
    assert found.failed == 0
    assert {entity["label"] for row in found.values.to_pylist() for entity in row} <= {"ORG", "PER"}


def test_tags_follow_the_scheme_of_the_base():
    entities = [{"label": "PER", "start": 3, "end": 9}]
    offsets = [(0, 2), (2, 5), (5, 9), (9, 12)]

    def tagged(tags):
        number = {tag: i for i, tag in enumerate(tags)}
        return [tags[i] for i in ner.token_tags("to Ada L said", entities, offsets, number)]

    assert tagged(["O", "B-PER", "I-PER"]) == ["O", "B-PER", "I-PER", "O"]
    assert tagged(["O", "B-PER", "I-PER", "E-PER", "S-PER"]) == ["O", "B-PER", "E-PER", "O"]
    assert tagged(["O", "PER"]) == ["O", "PER", "PER", "O"]
    assert ner.tag_order(["PER"], ["PER", "O"]) == ["PER", "O"]
    assert ner.tag_order(["PER", "ORG"], ["O", "B-PER", "I-PER"])[:2] == ["O", "B-PER"]
