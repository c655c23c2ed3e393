"""Files for label tools: what Label Studio and Argilla import, with offsets as each of them counts."""

import json
from xml.etree import ElementTree

import pyarrow as pa
import pytest

from jobs.review import columns, formats, prediction, question
from jobs.review.offsets import to_points, to_units
from jobs.review.question import Question
from jobs.store import Store
from tests.jobs.review import draws


def tasks(rows):
    return json.loads(formats.label_studio(rows))


def records(rows):
    return json.loads(formats.argilla(rows))


@pytest.mark.parametrize(
    ("rows", "values"),
    [
        (draws.single(), [{"choices": [label]} for label in ("good", "bad", "good", "mixed & more")]),
        (
            draws.several(),
            [{"choices": labels} for labels in (["price", "size"], ["price"], ["price", "size"], ["price"])],
        ),
        (draws.texts(), [{"text": [text]} for text in ("short one", "two\nlines", "three", "four")]),
    ],
)
def test_label_studio_shows_what_the_model_says(rows, values):
    found = tasks(rows)
    assert [task["predictions"][0]["result"][0]["value"] for task in found] == values
    assert [task["data"]["text"] for task in found] == draws.TEXTS
    assert [task["data"][columns.KEY] for task in found] == draws.KEYS
    assert {task["predictions"][0]["model_version"] for task in found} == {"org/x@abc"}
    assert {task["predictions"][0]["score"] for task in found} == {0.9}


def test_entities_of_label_studio_count_code_points_and_those_of_argilla_code_units():
    studio = [region["value"] for region in tasks(draws.entities())[0]["predictions"][0]["result"]]
    text = draws.TEXTS[0]
    assert [text[one["start"] : one["end"]] for one in studio] == [one["text"] for one in studio]
    assert [one["text"] for one in studio] == ["Zoë", "Berlin", "Anna", "Rome"]
    spans = records(draws.entities())[0]["suggestions"]["entities"]["value"]
    units = text.encode("utf-16-le")
    shown = [units[2 * one["start"] : 2 * one["end"]].decode("utf-16-le") for one in spans]
    # The server of Argilla would refuse the end of the last one, which is beyond the number of code points.
    assert shown == ["Zoë", "Berlin", "Anna"]


def test_offsets_convert_to_code_units_and_back():
    text = "a😀b👩‍👩‍👧é"
    for offset in range(len(text) + 1):
        assert to_units(text, offset) == len(text[:offset].encode("utf-16-le")) // 2
        assert to_points(text, to_units(text, offset)) == offset
    assert to_points(text, 2) is None
    assert to_points(text, 99) is None


def test_the_interface_of_label_studio_asks_the_question_of_the_task():
    one = ElementTree.fromstring(formats.label_studio_config("classify", ["a & b", '"c"']))
    assert [choice.get("value") for choice in one.iter("Choice")] == ["a & b", '"c"']
    assert one.find("Choices").attrib == {
        "name": "label", "toName": "text", "choice": "single", "required": "true", "showInline": "true"
    }  # fmt: skip
    many = ElementTree.fromstring(formats.label_studio_config("classify", [f"l{i}" for i in range(50)], several=True))
    assert (many.find("Choices").get("choice"), many.find("Choices").get("layout")) == ("multiple", "select")
    spans = ElementTree.fromstring(formats.label_studio_config("ner", ["PER", "LOC"]))
    assert spans.find("Labels").get("name") == "entities"
    assert spans.find("Text").get("value") == "$text"
    for task, name in (("summarize", "target"), ("translate", "target"), ("generate", "completion")):
        assert ElementTree.fromstring(formats.label_studio_config(task)).find("TextArea").get("name") == name


def test_argilla_gets_the_record_its_suggestion_and_where_the_row_comes_from():
    record = records(draws.single())[1]
    assert record["id"] == draws.KEYS[1]
    assert record["fields"] == {"text": draws.TEXTS[1]}
    assert record["suggestions"] == {"label": {"value": "bad", "score": 0.9, "agent": "org/x@abc"}}
    assert record["metadata"]["review_run"] == draws.RUN
    assert record["metadata"]["stars"] == 1
    settings = json.loads(formats.argilla_settings("classify", ["x", "y"], several=True))
    options = settings["questions"][0]["settings"]["options"]
    assert [option["value"] for option in options] == ["x", "y", formats.NO_LABEL]


def test_every_tool_gets_its_file_and_an_empty_draw_gets_none(tmp_path):
    store = Store(str(tmp_path), "review.path")
    formats.write(store, "empty", "run", draws.single().slice(0, 0))
    assert not list(tmp_path.rglob("*.json"))
    formats.write(store, draws.JOB, draws.RUN, draws.single())
    names = {file.name for file in (tmp_path / "draws" / draws.JOB).iterdir()}
    assert names == {
        "argilla-settings.json", "labelstudio.xml",
        f"{draws.RUN}.labelstudio.json", f"{draws.RUN}.argilla.json", f"{draws.RUN}.jsonl",
    }  # fmt: skip


def test_a_plain_line_has_no_truth_so_that_a_prediction_is_not_imported_as_one(tmp_path):
    rows = draws.single().append_column("label", pa.array(["of the source"] * 4))
    line = json.loads(formats.lines(rows).splitlines()[1])
    assert (line["text"], line["review_prediction"], line["id"]) == (draws.TEXTS[1], "bad", "r1")
    assert "label" not in line


def test_values_that_json_lacks_are_left_out_or_become_text():
    rows = draws.single()
    rows = rows.append_column("price", pa.array([float("nan"), 1.5, float("inf"), None]))
    rows = rows.append_column("day", pa.array([0, 1, 2, None], pa.date32())).append_column("raw", pa.array([b"x"] * 4))
    data = [task["data"] for task in json.loads(formats.label_studio(rows), parse_constant=pytest.fail)]
    assert [one["price"] for one in data] == [None, 1.5, None, None]
    assert [one["day"] for one in data] == ["1970-01-01", "1970-01-02", "1970-01-03", None]
    assert "raw" not in data[0]


def test_a_row_on_which_two_models_differ_shows_either_of_them_by_chance():
    texts = [f"text number {i}" for i in range(200)]
    rows = draws.single(
        ["good"] * 200,
        review_text=texts,
        review_drawn=["difference"] * 200,
        review_challenger=["v2"] * 200,
        review_challenger_prediction=["bad"] * 200,
    )
    shown = [(one.value, one.model) for one in prediction.shown(rows, question.read(rows))]
    assert set(shown) == {("good", "org/x@abc"), ("bad", "v2")}
    assert 60 < shown.count(("bad", "v2")) < 140
    assert shown == [(one.value, one.model) for one in prediction.shown(rows, question.read(rows))]


def test_the_question_of_a_draw_without_one_follows_from_its_predictions():
    assert question.read(draws.several()) == Question("classify", ("price", "size", "taste"), True)
    plain = draws.several().replace_schema_metadata(None)
    assert question.read(plain) == Question("classify", ("price", "size"), True)
    assert question.read(draws.entities().replace_schema_metadata(None)) == Question("ner", ("LOC", "PER"))
