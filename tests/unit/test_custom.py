"""Tasks of one's own: files of every kind, what is refused, and where a task is named."""

import json
import re
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from datasets.exceptions import DatasetNotFoundError

from lotterylib.data import custom
from lotterylib.data.glue import held_out, load_data
from lotterylib.errors import LotteryError
from lotterylib.runs.settings import given_by, parse_settings
from lotterylib.tasks import title_of

GERMAN = ["Der Film war großartig.", 'Sie sagte: "öde, ja"', "Mäßig, sehr mäßig", "Ein\tTab, nein"]
ROOT = Path(__file__).parents[2]
MOODS = ["gut", "schlecht", "mittel", "gut"]
CODES = [0, 2, 1, 0]  # in alphabetical order


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(file="mood.yml", **changes):
    """A task file on GERMAN in CSV; a change to None takes the line out."""
    keys = {"name": "mood", "train": "train.csv", "dev": "dev.csv", "text": "satz", "label": "ton"}
    lines = [f"{key}: {json.dumps(value)}" for key, value in (keys | changes).items() if value]
    Path(file).write_text("\n".join(lines) + "\n")
    return file


def frame(labels=MOODS, texts=GERMAN):
    return pd.DataFrame({"nr": range(len(texts)), "satz": texts, "ton": labels})


def save(table, name):
    kind = Path(name).suffix
    if kind == ".parquet":
        table.to_parquet(name)
    elif kind in (".jsonl", ".json"):
        table.to_json(name, orient="records", lines=kind == ".jsonl", force_ascii=False)
    else:
        table.to_csv(name, index=False, sep="\t" if kind == ".tsv" else ",")


def refused(given="mood.yml"):
    with pytest.raises(LotteryError) as error:
        custom.resolve(given)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- what is read ------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "labels", "classes"),
    [
        *((kind, MOODS, ("gut", "mittel", "schlecht")) for kind in ("csv", "jsonl", "json")),
        *((kind, [-1, 10, 2, -1], ("-1", "2", "10")) for kind in ("csv", "parquet")),
        *((kind, [True, False, True, True], ("False", "True")) for kind in ("jsonl", "parquet")),
    ],
)
def test_every_kind_of_file_and_of_label(kind, labels, classes, here):
    for name in ("train", "dev"):
        save(frame(labels), f"{name}.{kind}")
    task = custom.resolve(written(train=f"train.{kind}", dev=f"dev.{kind}"))
    assert (task.name, task.title, task.labels) == ("mood", "mood", classes)
    data = load_data(task)
    assert data.train.to_dict() == {
        "satz": GERMAN,
        "label": [classes.index(str(label)) for label in labels],
    }
    assert data.train.to_dict() == data.dev.to_dict()
    told = ", ".join(f"{code} is {name}" for code, name in enumerate(classes))
    assert data.origin == (
        f"own files, as mood.yml says; {told}; 4 of 4 dev rows have texts of training rows; "
        "4 of 4 training and 4 of 4 dev rows"
    )


@pytest.mark.parametrize(("separator", "mark"), [(",", ""), (";", "\ufeff"), ("\t", "")])
def test_a_csv_file_has_the_separator_of_its_header(separator, mark, here):
    for name in ("train.csv", "dev.csv"):
        text = frame().to_csv(index=False, sep=separator, lineterminator="\r\n")
        Path(name).write_bytes((mark + text).encode())
    assert load_data(custom.resolve(written())).train.to_dict() == {"satz": GERMAN, "label": CODES}


def test_a_row_of_csv_may_have_several_lines_and_the_next_is_still_found(here):
    rows = 'satz,ton\n"eins\n\nzwei",gut\ndrei\x0b\u2028\x1c,schlecht\nvier'
    Path("train.csv").write_text(f"{rows}\n")
    told = "train.csv, line 6: the row is cut short: it has 1 fields instead of 2."
    assert refused(written(dev="train.csv")) == told
    Path("train.csv").write_text(f"{rows},schlecht,,\n")  # more than the header, but empty
    texts = load_data(custom.resolve("mood.yml")).train["satz"]
    assert texts[:2] == ["eins\n\nzwei", "drei\x0b\u2028\x1c"]


def test_pairs_several_files_and_a_pattern(here):
    for part in range(3):
        table = pd.DataFrame({"label": [f"a{part}", "b"], "q": ["c", f"d{part}"], "is": ["x", "y"]})
        save(table, f"part-{part}.csv")
    save(table, "._part-0.csv")
    keys = {"text": ["label", "q"], "label": "is", "metric": "f1"}
    task = custom.resolve(written(train="part-*.csv", dev=["part-2.csv", "part-0.csv"], **keys))
    assert (task.columns, task.labels, task.metric) == (("text of label", "q"), ("x", "y"), "f1")
    data = load_data(task)
    assert list(data.train["text of label"]) == ["a0", "b", "a1", "b", "a2", "b"]
    assert list(data.dev["q"]) == ["c", "d2", "c", "d0"]
    assert list(data.dev["label"]) == [0, 1, 0, 1]


def test_a_share_is_held_out_by_the_seed_that_is_told(here):
    save(frame(MOODS * 10, [f"{text} {n}" for n in range(10) for text in GERMAN]), "train.csv")
    one, twin, other = (load_data(custom.resolve(written(dev=0.2, seed=s))) for s in (3, 3, 4))
    assert one.fingerprint == twin.fingerprint != other.fingerprint
    assert (len(one.train), len(one.dev)) == (32, 8)
    texts = [*one.train["satz"], *one.dev["satz"]]
    assert sorted(texts) == sorted(pd.read_csv("train.csv")["satz"])
    assert "; 20% of the training rows, drawn by seed 3, are dev; 32 of 32" in one.origin
    save(frame(["gut", "schlecht"], GERMAN[:2]), "train.csv")
    for share in (0.01, 0.99):  # neither part is left without a row
        data = load_data(custom.resolve(written(dev=share)))
        assert (len(data.train), len(data.dev)) == (1, 1)


@pytest.mark.parametrize(
    ("labels", "codes", "scaled"),
    [
        ([1, 2.5, 4, 5], [1, 2.5, 4, 5], ""),
        ([-10, 0, 3, 10], [-10, 0, 3, 10], ""),
        ([-100, 0, -50, -20], [0, 5, 2.5, 4], "labels from -100 to 0 are scaled to 0 to 5"),
    ],
)
def test_numbers_are_labels_of_pearson(labels, codes, scaled, here):
    save(frame(labels), "train.csv")
    task = custom.resolve(written(train="train.csv", dev="train.csv", metric="pearson"))
    assert (task.labels, task.outputs, task.is_regression) == ((), 1, True)
    data = load_data(task)
    assert list(data.train["label"]) == list(data.dev["label"]) == codes
    assert scaled in data.origin
    assert ("scaled" in data.origin) == bool(scaled)
    Path("train.csv").write_text("satz,ton\na,1\nb,inf\n")
    assert "train.csv, line 3: the row has the label 'inf', which mood does not" in refused()


def test_other_classes_are_other_data(here):
    """Drawn rows may be the same while the task layer is not."""
    labels = np.array(["a", "b", "a", "a"])
    save(frame(labels), "train.csv")
    drawn = np.random.default_rng(0).choice(4, 2, replace=False)
    labels[next(row for row in (0, 2, 3) if row not in drawn)] = "c"
    save(frame(labels), "more.csv")
    found = [
        load_data(custom.resolve(written(train=file, dev="train.csv")), "", 2, 0)
        for file in ("train.csv", "more.csv")
    ]
    assert found[0].train.to_dict() == found[1].train.to_dict()
    assert found[0].fingerprint != found[1].fingerprint
    assert held_out(found[0]).fingerprint != held_out(found[1]).fingerprint


def test_a_data_set_of_the_hub(here, monkeypatch):
    features = Features({"satz": Value("string"), "ton": ClassLabel(names=["schlecht", "gut"])})
    rows = Dataset.from_dict({"satz": ["a", "b"], "ton": [0, 1]}, features)
    ask = Mock(return_value=DatasetDict(dict.fromkeys(("train", "validation", "test"), rows)))
    monkeypatch.setattr(custom, "load_hub", ask)
    task = custom.resolve(written(train=None, dev=None, hub=["owner/name", "de"]))
    assert task.labels == ("gut", "schlecht")
    data = load_data(task)
    assert data.dev.to_dict() == {"satz": ["a", "b"], "label": [1, 0]}
    assert data.origin.startswith("owner/name de from the Hugging Face hub, as mood.yml says")
    assert {each.args for each in ask.call_args_list} == {("owner/name", "de")}
    told = "mood.yml: Unknown split of owner/name: 'tset'. Did you mean 'test'? Accepted: train,"
    assert refused(written(train=None, dev="tset", hub="owner/name")).startswith(told)
    ask.side_effect = DatasetNotFoundError("no network here")
    told = "mood.yml: the data set owner/name is not on the Hugging Face hub, or it is neither in"
    assert refused().startswith(told)
    assert refused().endswith("nor can the hub be reached (no network here).")
    ask.side_effect = ValueError("No such configuration.")
    assert refused() == "mood.yml: owner/name cannot be loaded: No such configuration."


# --- what is refused ---------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "sst-2"}, "mood.yml, line 1: the name 'sst-2' is taken"),
        ({"name": "../up"}, "mood.yml, line 1: the name '../up' is not fit for a folder"),
        ({"label": None}, "mood.yml: the task lacks 'label': the column of the labels."),
        ({"txt": "x"}, "mood.yml, line 6: Unknown key 'txt'. Did you mean 'text'? Accepted: name,"),
        ({"metric": "acuracy"}, "mood.yml, line 6: Unknown metric 'acuracy'. Did you mean 'accur"),
        ({"dev": 1.5}, "mood.yml, line 3: the share 1.5 of train must lie between 0 and 1"),
        ({"text": ["a", "b", "c"]}, "mood.yml, line 4: 'text' names 3, and 2 are accepted."),
        ({"text": "ton"}, "mood.yml, line 5: texts and label must be different columns."),
        ({"text": ["label", "text of label"]}, "line 4: the column 'label' is shown as 'text of"),
        ({"text": 5}, "mood.yml, line 4: 'text' is 5: it must be a text"),
        ({"train": "tran.csv"}, "mood.yml: Unknown file 'tran.csv'. Did you mean 'train.csv'?"),
        ({"text": "Satz"}, "Unknown column of train.csv: 'Satz'. Did you mean 'satz'? Accepted: n"),
        ({"metric": "f1"}, "the label column 'ton' holds 3 classes, and f1 is that of two"),
        ({"metric": "pearson"}, "line 2: the row has the label 'gut', which mood does not have"),
    ],
)
def test_a_mistake_in_a_task_file_is_named_with_its_line(changes, message, here):
    for name in ("train.csv", "dev.csv"):
        save(frame(), name)
    assert message in refused(written(**changes))


def json_rows(*rows):
    return "\n".join(json.dumps(dict(zip(("satz", "ton"), row, strict=False))) for row in rows)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,gut\n,schlecht", "line 3: the column 'satz' is empty; it must be a text."),
        ("a,gut\nb,", "line 3: the row has no 'ton'."),
        ('a,gut\nb "c",schlecht\n"d,gut', "line 4: the row that begins here cannot be read"),
        ("a,gut\nb,gut", "'ton' holds 'gut' in every row; there must be two classes"),
        ("a,1.5\nb,2", "line 2: the label 1.5 is no class but a number; for numbers choose"),
        ("\n".join(f"a,c{n % 101}" for n in range(202)), "holds 101 different labels in 202 rows"),
        (f"a,gut\nb,{'schlecht ' * 9}", "up to 60 characters: is it the column of the texts?"),
        (json_rows(("a", 1), ("b",)), "line 2: 'ton'. Accepted: satz."),
        (json_rows(("a", 1)) + "\n{", "train.jsonl, line 2: this is no JSON"),
        (json_rows(("a", 1), (5, 0)), "line 2: the column 'satz' holds 5"),
        (json_rows(("a", "x"), ("b", ["x"])), "line 2: the label ['x'] is neither a text nor a n"),
        (json_rows(("a", "x"), ("\ud800", "y")), r"column 'satz' holds '\ud800'; it must be a te"),
    ],
)
def test_a_bad_row_is_named_with_its_place(rows, message, here):
    file = Path("train.jsonl" if rows.startswith("{") else "train.csv")
    file.write_text(rows + "\n" if rows.startswith("{") else f"satz,ton\n{rows}\n")
    assert message in refused(written(train=file.name, dev=0.5))


def test_texts_that_dev_shares_with_train_are_counted(here):
    save(frame(texts=["eins", "zwei", "drei", "vier"]), "train.csv")
    save(frame(texts=["fünf", "zwei", "drei", "drei"]), "dev.csv")
    data = load_data(custom.resolve(written()))
    assert "; 3 of 4 dev rows have texts of training rows; " in data.origin
    save(frame(texts=["5", "6", "7", "8"]), "dev.csv")
    assert "dev rows have texts" not in load_data(custom.resolve(written())).origin


def test_a_label_that_only_dev_has_is_named_with_the_nearest(here):
    save(frame(), "train.csv")
    save(frame(["gut", "schlecht", "mitel", "gut"]), "dev.csv")
    told = "dev.csv, line 4: the row has the label 'mitel', which mood does not have. Accepted: gut"
    assert refused(written()).startswith(told)
    assert refused().endswith("schlecht. Did you mean 'mittel'?")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [a\n", "mood.yml, line 2: this is not YAML"),
        ("- name\n", "mood.yml must hold lines such as 'name: mood'."),
        ("name: a\nname: b\n", "mood.yml, line 2: 'name' stands there for the 2nd time."),
        ("name: no\ntrain: a\ndev: b\ntext: c\nlabel: d\n", "line 1: the name False is n"),
    ],
)
def test_a_file_that_is_no_task_file_is_a_sentence(text, message, here):
    Path("mood.yml").write_text(text)
    assert message in refused()


@pytest.mark.parametrize("name", ["folder.csv", "/dev/zero", "f" * 300 + ".csv"])
def test_what_is_no_regular_file_is_not_read(name, here):
    Path("folder.csv").mkdir()
    said = refused(written(train=name, dev=0.5))
    assert f"{name} is not a regular file" in said or f"Unknown file '{name}'" in said


def test_what_stands_in_a_tasks_place_but_is_none(here):
    save(frame(), "train.csv")
    written()
    assert refused("mod.yml") == "The file mod.yml does not exist. Did you mean 'mood.yml'?"
    assert refused("mood") == "Unknown task 'mood'. Did you mean 'mood.yml'?"
    assert "train.csv holds data, not a task" in refused("train.csv")
    assert "cannot be read" in refused(str(here))
    assert "or the path of a task file" in refused("colla")
    assert "Did you mean" not in refused("path of task file")


# --- where a task is named ---------------------------------------------------


@pytest.fixture
def smoke(here):
    """A request for a task of one's own that is computed at once."""
    save(frame(MOODS * 8, [f"{text} {n}" for n in range(8) for text in GERMAN]), "train.csv")
    amounts = {"encoder": "tiny", "budget": "smoke", "seeds": "1,2", "train_rows": 16}
    return {"task": written(dev=0.3), "store": "runs", **amounts}


def test_settings_lead_to_the_file_and_name_the_task(smoke):
    settings = parse_settings(**smoke)
    assert given_by(settings)["task"] == "mood.yml"
    assert parse_settings(**given_by(settings)) == settings
    assert custom.title_of_given("mood.yml") == title_of("mood") == "mood"
    with pytest.raises(LotteryError, match="mood takes no data directory: it is described by mood"):
        parse_settings(**smoke, data_dir=".")


def test_the_chapters_example_works_as_it_stands(here):
    chapter = ROOT / "book" / "chapters" / "rerun.md"
    (example,) = re.findall(r"```yaml\n(name: .*?)```", chapter.read_text(), re.S)
    assert len(example.splitlines()) <= 8
    Path("mood.yml").write_text(example)
    for name in ("train.csv", "dev.csv"):
        frame().rename(columns={"satz": "sentence", "ton": "mood"}).to_csv(name, index=False)
    assert list(load_data(custom.resolve("mood.yml")).train["label"]) == CODES
