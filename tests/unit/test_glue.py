"""Data in every layout that GLUE comes in; what is wrong is named before anything is trained."""

from unittest.mock import Mock

import datasets
import huggingface_hub
import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from datasets.exceptions import DatasetNotFoundError

import lotterylib.data.glue
from lotterylib.data.glue import held_out, load_data
from lotterylib.data.tables import load_hub
from lotterylib.errors import LotteryError
from lotterylib.tasks import TASKS, find_task

TAB = "\t"
QUOTED = 'He said "no, it\'s 5\'10""'

FIRST, SECOND = [QUOTED, "NA", '"c '], ["A", "B", 'C"']  # NA is a word, not a missing value
STSB = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2"
MNLI = "index\tpromptID\tpairID\tgenre\ts1_binary_parse\ts2_binary_parse\ts1_parse\ts2_parse"
PAIR, YES, NO = "index\tsentence1\tsentence2\tlabel", "entailment", "not_entailment"

TSV = {
    # folder, header, what stands before the texts and behind them, labels, their codes
    "cola": ("CoLA", "", "gj04\t{}\t\t", "", ["1", "0", "1"], [1, 0, 1]),
    "sst2": ("SST-2", "sentence\tlabel", "", "\t{}", ["0", "1", "1"], [0, 1, 1]),
    "mrpc": (
        *("MRPC", "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String", "{}\t702876\t702977\t", ""),
        *(["1", "0", "1"], [1, 0, 1]),
    ),
    "qqp": (
        *("QQP", "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "1\t11\t12\t", "\t{}"),
        *(["0", "1", "0"], [0, 1, 0]),
    ),
    "stsb": (
        *("STS-B", f"{STSB}\tsentence1\tsentence2\tscore", "0\t" * 7, "\t{}"),
        *(["5.000", "3.8", "0"], [5.0, 3.8, 0.0]),
    ),
    "mnli": (
        *("MNLI", f"{MNLI}\tsentence1\tsentence2\tlabel1\tgold_label", "0\t" * 8, "\tneutral\t{}"),
        *(["neutral", "entailment", "contradiction"], [1, 0, 2]),
    ),
    "qnli": ("QNLI", "index\tquestion\tsentence\tlabel", "0\t", "\t{}", [YES, NO, YES], [0, 1, 0]),
    "rte": ("RTE", PAIR, "0\t", "\t{}", [NO, YES, YES], [1, 0, 0]),
    "wnli": ("WNLI", PAIR, "0\t", "\t{}", ["1", "0", "1"], [1, 0, 1]),
}


def texts_of(name):
    return dict(zip(find_task(name).columns, (FIRST, SECOND), strict=False))


def tsv_rows(name, labels=None):
    _, _, before, behind, written, _ = TSV[name]
    return [
        (before + TAB.join(texts) + behind).format(label)
        for *texts, label in zip(*texts_of(name).values(), labels or written, strict=True)
    ]


def dev_file(name):
    return "dev_matched.tsv" if name == "mnli" else "dev.tsv"


def write_tsv(root, name, train=None, dev=None):
    """Files in the layout of GLUE's own download; rows may be replaced."""
    folder, header = TSV[name][:2]
    (root / folder).mkdir(exist_ok=True, parents=True)
    for file, lines in (("train.tsv", train), (dev_file(name), dev)):
        content = [*([header] if header else []), *(lines or tsv_rows(name))]
        (root / folder / file).write_bytes("".join(f"{line}\n" for line in content).encode())
    return root / folder


def write_parquet(root, name, dev=None, **columns):
    """Files as `nyu-mll/glue` has them; columns may be replaced or added."""
    (root / name).mkdir(exist_ok=True, parents=True)
    data = texts_of(name) | {"label": TSV[name][5], "idx": [0, 1, 2]}
    for file, own in (("train", {}), (find_task(name).dev_split, dev or {})):
        pd.DataFrame(data | columns | own).to_parquet(root / name / f"{file}.parquet")
    return root / name


def frame(split):
    return {column: list(split[column]) for column in split.column_names}


@pytest.mark.parametrize("name", TSV)
def test_every_task_is_read_alike_in_both_layouts(name, tmp_path):
    task, found = find_task(name), []
    for write in (write_tsv, write_parquet):
        root = tmp_path / write.__name__
        write(root, name)
        found.append(load_data(task, str(root)))
        assert frame(found[-1].train) == frame(found[-1].dev)
        assert frame(found[-1].dev) == texts_of(name) | {"label": TSV[name][5]}
        assert found[-1].train.column_names == [*task.columns, "label"]
        wanted = "GLUE from a local directory; 3 of 3 training and 3 of 3 dev rows"
        assert found[-1].origin == wanted
    assert found[0].fingerprint == found[1].fingerprint


def test_a_part_of_a_split_is_read_and_said(tmp_path):
    folder = write_parquet(tmp_path, "rte")
    (folder / "train.parquet").rename(folder / "train_subset1000.parquet")
    origin = load_data(find_task("rte"), str(tmp_path)).origin
    assert "only a part of it: train_subset1000" in origin


# --- what is refused ---------------------------------------------------------


def refused(root, name):
    with pytest.raises(LotteryError) as error:
        load_data(find_task(name), str(root))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_directory_or_folder_is_named(tmp_path, monkeypatch):
    assert "nowhere does not exist" in refused(tmp_path / "nowhere", "stsb")
    message = refused(tmp_path, "stsb")
    assert "stsb/train.parquet" in message
    assert "STS-B/train.tsv" in message
    file = tmp_path / "glue.zip"
    file.write_text("x")
    assert "is a file, not a directory; if it is an archive, unpack it" in refused(file, "stsb")
    monkeypatch.setenv("HOME", str(tmp_path))
    write_tsv(tmp_path / "GLUE", "stsb")
    assert len(load_data(find_task("stsb"), "~/GLUE").train) == 3


def test_a_missing_file_is_named_and_parquet_comes_before_tsv(tmp_path):
    folder = write_tsv(tmp_path, "mnli")
    for file in ("dev_matched.tsv", "train.tsv"):
        (folder / file).unlink()
        assert f"{folder / file} is missing" in refused(tmp_path, "mnli")
    folder = write_parquet(tmp_path, "mnli")
    assert len(load_data(find_task("mnli"), str(tmp_path)).train) == 3
    (folder / "validation_matched.parquet").unlink()
    message = refused(tmp_path, "mnli")
    assert message.startswith(f"{folder} lacks the file validation_matched.parquet")


def test_a_missing_column_is_named(tmp_path):
    file = write_tsv(tmp_path, "mrpc") / "train.tsv"
    file.write_text(file.read_text().replace("#2 String", "#2 Strin"))
    told = f"Unknown column of {file}: '#2 String'. Did you mean '#2 Strin'?"
    assert refused(tmp_path, "mrpc").startswith(told)
    file = write_parquet(tmp_path, "mrpc") / "train.parquet"
    pd.read_parquet(file).drop(columns="label").to_parquet(file)
    assert f"Unknown column of {file}: 'label'. Accepted: " in refused(tmp_path, "mrpc")


@pytest.mark.parametrize(
    ("name", "label", "accepted"),
    [
        ("mnli", 3, "entailment, neutral, contradiction (or 0 to 2)"),
        ("stsb", 5.5, "numbers from 0 to 5"),
        ("stsb", "nan", "numbers from 0 to 5"),
        ("qnli", "", "entailment, not_entailment (or 0 to 1)"),
        ("cola", "good", "unacceptable, acceptable (or 0 to 1)"),
    ],
)
def test_an_unknown_label_is_named_with_its_place(name, label, accepted, tmp_path):
    task = find_task(name)
    if isinstance(label, str):
        written = [TSV[name][4][0], label, TSV[name][4][0]]
        place = f"dev.tsv, line {2 if name == 'cola' else 3}"
        folder = write_tsv(tmp_path, name, dev=tsv_rows(name, written))
    else:
        good, place = TSV[name][5][0], f"{task.dev_split}.parquet, row 2"
        folder = write_parquet(tmp_path, name, dev={"label": [good, label, good]})
    what = f"the label '{label}', which {task.title} does not have"
    told = f"{folder / place}: the row has {'no label' if label in ('', None) else what}. "
    assert refused(tmp_path, name).startswith(f"{told}Accepted: {accepted}.")


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("wnli", ["entailment", "not_entailment", "entailment"]),
        ("rte", ["1", "0", "0"]),
        ("rte", [1.0, 0.0, 0.0]),
        ("rte", ["1.00", "0.", "0"]),
        ("stsb", ["5.0", "3.8", "0"]),
    ],
)
def test_labels_are_coded_alike_in_both_layouts(name, labels, tmp_path):
    rows = tsv_rows(name, labels)
    write_parquet(tmp_path / "parquet", name, label=labels)
    write_tsv(tmp_path / "tsv", name, train=rows, dev=rows)
    read = [load_data(find_task(name), str(tmp_path / kind)) for kind in ("parquet", "tsv")]
    assert list(read[0].train["label"]) == list(read[1].train["label"]) == TSV[name][5]
    assert read[0].fingerprint == read[1].fingerprint


def test_a_parquet_file_that_names_its_classes_in_another_order_is_understood(tmp_path):
    text, names = Value("string"), ClassLabel(names=["not_entailment", "entailment"])
    features = Features({"sentence1": text, "sentence2": text, "label": names})
    (tmp_path / "rte").mkdir()
    for split in ("train", "validation"):
        data = Dataset.from_dict(texts_of("rte") | {"label": [0, 1, 1]}, features)
        data.to_parquet(tmp_path / "rte" / f"{split}.parquet")
    assert list(load_data(find_task("rte"), str(tmp_path)).train["label"]) == TSV["rte"][5]


@pytest.mark.parametrize(("name", "value"), [("cola", None), ("mnli", 5)])
def test_a_row_without_text_is_refused(name, value, tmp_path):
    column = find_task(name).columns[-1]
    folder = write_parquet(tmp_path, name, dev={column: [value] * 3})
    message = refused(tmp_path, name)
    what = "is empty" if value is None else "holds 5"
    place = folder / f"{find_task(name).dev_split}.parquet"
    assert message == f"{place}, row 1: the column {column!r} {what}; it must be a text."


@pytest.mark.parametrize(("name", "place"), [("cola", 0), ("cola", 2), ("mrpc", 0), ("qqp", 2)])
def test_a_row_of_another_width_is_named_with_its_line(name, place, tmp_path):
    """Also the first one, from which pandas would take how wide rows are."""
    rows = tsv_rows(name)
    width = len(rows[0].split(TAB))
    where = tmp_path / TSV[name][0] / f"train.tsv, line {place + (1 if name == 'cola' else 2)}: "
    rows[place] += "\t"
    write_tsv(tmp_path, name, train=rows)
    assert len(load_data(find_task(name), str(tmp_path)).train) == 3  # nothing stands in there
    cases = [(rows[place] + "more", "long", width + 1)] + [("cut", "short", 1)] * (name != "qqp")
    for row, kind, fields in cases:
        rows[place] = row
        write_tsv(tmp_path, name, train=rows)
        kind = {"long": "too long", "short": "cut short"}[kind]
        told = f"the row is {kind}: it has {fields} fields instead of {width}."
        assert refused(tmp_path, name) == f"{where}{told}"


def test_only_line_feeds_end_a_line(tmp_path):
    text = "N\rA\x0b\u2028 \x1c"
    file = write_tsv(tmp_path, "qqp", train=[r.replace("NA", text) for r in tsv_rows("qqp")])
    file /= "train.tsv"
    plain = load_data(find_task("qqp"), str(tmp_path))
    assert list(plain.train["question1"]) == [QUOTED, text, '"c ']
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert load_data(find_task("qqp"), str(tmp_path)).fingerprint == plain.fingerprint


def test_rows_of_qqp_that_are_cut_short_are_left_out_and_counted(tmp_path):
    rows, short = tsv_rows("qqp") * 10, "4\t17\t18\tonly one question"
    write_tsv(tmp_path, "qqp", train=[*rows, *[short] * 10], dev=[*rows, short])
    data = load_data(find_task("qqp"), str(tmp_path))
    assert (len(data.train), len(data.dev)) == (30, 30)
    assert "(11 rows that are cut short were left out)" in data.origin
    for train, told in (
        ([*rows, *[short] * 11], "32: the row is cut short, and so are 10 more; at most 10 are le"),
        ([*rows, "4\t17\t18\ta\tb\tyes"], "32: the row has the label 'yes'"),
        ([rows[0], short, short], "3: the row is cut short, and so are 1 more; at most 1 are left"),
    ):
        write_tsv(tmp_path, "qqp", train=train)
        assert f"train.tsv, line {told}" in refused(tmp_path, "qqp")


@pytest.mark.parametrize(("write", "name"), [(write_tsv, "sst2"), (write_parquet, "stsb")])
def test_folders_may_be_in_lower_or_upper_case_and_hidden_files_do_not_count(name, write, tmp_path):
    folder = write(tmp_path, name)
    fingerprint = load_data(find_task(name), str(tmp_path)).fingerprint
    (tmp_path / "._other").write_bytes(b"x")
    (folder / "._train-00000-of-00001.parquet").write_bytes(b"x")
    (folder / ".train.tsv").write_bytes(b"x")
    for spelling in (folder.name.upper(), TASKS[name].tsv_folder, folder.name.lower()):
        folder = folder.rename(tmp_path / spelling)
        assert load_data(find_task(name), str(tmp_path)).fingerprint == fingerprint


@pytest.mark.parametrize(
    ("name", "pattern", "shards"),
    [("rte", "{}-{:05d}-of-{:05d}.parquet", 1), ("mnli", "{}-{:05d}-of-{:05d}-a1b2.parquet", 3)],
)
def test_the_hubs_own_files_are_read_shard_by_shard(name, pattern, shards, tmp_path):
    folder, task = write_parquet(tmp_path, name), find_task(name)
    fingerprint = load_data(task, str(tmp_path)).fingerprint
    for split in ("train", task.dev_split):
        table = pd.read_parquet(folder / f"{split}.parquet")
        for shard in range(shards):
            part = table.iloc[shard * 3 // shards : (shard + 1) * 3 // shards]
            part.to_parquet(folder / pattern.format(split, shard, shards))
        (folder / f"{split}.parquet").unlink()
    table.to_parquet(folder / pattern.format("test", 0, 1))
    assert load_data(task, str(tmp_path)).fingerprint == fingerprint
    if shards > 1:
        middle = folder / pattern.format("train", 1, shards)
        middle.rename(folder / pattern.format("train", shards, shards))
        assert f"{folder} holds 3 shards of train, which are not those from" in refused(
            tmp_path, name
        )


POINTER = b"version https://git-lfs.github.com/spec/v1\noid x\n"
LATIN = "sentence\tlabel\nfine\t1\ncafé\t1\n".encode("latin-1")


@pytest.mark.parametrize(
    ("kind", "content", "told"),
    [
        ("tsv", b"", " is empty."),
        ("tsv", LATIN, ", line 3: this is not UTF-8"),
        ("tsv", POINTER, " is a Git LFS pointer, not the file itself"),
        ("parquet", POINTER, " is a Git LFS pointer, not the file itself"),
        ("parquet", b"PAR1 and more PAR1", " cannot be read as parquet"),
        ("parquet", None, " holds no rows."),
    ],
)
def test_a_file_that_holds_no_table_is_named(kind, content, told, tmp_path):
    write = {"tsv": write_tsv, "parquet": write_parquet}[kind]
    file = write(tmp_path, "sst2") / f"train.{kind}"
    if content is None:
        pd.read_parquet(file).iloc[:0].to_parquet(file)
    else:
        file.write_bytes(content)
    assert refused(tmp_path, "sst2").startswith(f"{file}{told}")


@pytest.mark.parametrize("error", [ConnectionError, DatasetNotFoundError, ValueError])
def test_an_unreachable_hub_is_a_sentence(error, monkeypatch):
    monkeypatch.setattr(lotterylib.data.glue, "load_hub", Mock(side_effect=error("no network")))
    with pytest.raises(LotteryError, match=r"RTE is neither in.*no network.*--data-dir.*accep"):
        load_data(find_task("rte"))


def test_the_hub_is_asked_for_the_task_and_its_dev_split(monkeypatch):
    rows = Dataset.from_dict({"premise": ["a"], "hypothesis": ["b"], "label": [2], "idx": [0]})
    found = DatasetDict(dict.fromkeys(("train", "validation_matched", "test_matched"), rows))
    ask = Mock(return_value=found)
    monkeypatch.setattr(lotterylib.data.glue, "load_hub", ask)
    data = load_data(find_task("mnli"))
    ask.assert_called_once_with("nyu-mll/glue", "mnli")
    assert frame(data.dev) == {"premise": ["a"], "hypothesis": ["b"], "label": [2]}
    assert data.origin.startswith("nyu-mll/glue from the Hugging Face hub; 1 of 1")


# --- which rows --------------------------------------------------------------


def numbered(root, rows=50):
    (root / "sst2").mkdir()
    for split in ("train", "validation"):
        texts = [f"{split} {number}" for number in range(rows)]
        table = pd.DataFrame({"sentence": texts, "label": [n % 2 for n in range(rows)]})
        table.to_parquet(root / "sst2" / f"{split}.parquet")
    return str(root)


def test_a_budget_draws_the_same_rows_in_the_order_of_the_file(tmp_path):
    root, task = numbered(tmp_path), find_task("sst2")
    one = load_data(task, root, 20, 10)
    np.random.seed(7)
    again = load_data(task, root, 20, 10)
    assert one.fingerprint == again.fingerprint != load_data(task, root, 20, 10, 1).fingerprint
    assert frame(load_data(task, root, 20, 0).train) == frame(one.train)
    assert one.origin.endswith("20 of 50 training and 10 of 50 dev rows")
    for rows, split in (((1, 10), "training"), ((20, 1), "dev")):
        told = f"dev rows; all {split} labels are the same"
        assert load_data(task, root, *rows).origin.endswith(told)
    numbers = [int(text.split()[1]) for text in one.train["sentence"]]
    assert numbers == sorted(set(numbers)) != list(range(20))
    assert list(one.train["label"]) == [number % 2 for number in numbers]
    assert len(numbers) == 20
    for rows in (0, 50, 51):  # no limit, or one that is not reached
        assert len(load_data(task, root, rows, 5).train) == 50


def test_the_fingerprint_follows_texts_labels_order_and_rows(tmp_path):
    base = {"sentence": ["a", "b", "c"], "label": [0, 1, 0]}
    variants = [
        base,
        base | {"sentence": ["a", "b", "d"]},
        base | {"label": [0, 1, 1]},
        {"sentence": ["b", "a", "c"], "label": [1, 0, 0]},
        {"sentence": ["a", "b"], "label": [0, 1]},
    ]
    (tmp_path / "sst2").mkdir()

    def fingerprint(train, dev):
        for split, columns in (("train", train), ("validation", dev)):
            pd.DataFrame(columns).to_parquet(tmp_path / "sst2" / f"{split}.parquet")
        return load_data(find_task("sst2"), str(tmp_path)).fingerprint

    prints = [fingerprint(variant, base) for variant in variants]
    prints += [fingerprint(base, variant) for variant in variants[1:]]
    assert len(set(prints)) == len(prints)
    assert fingerprint(base | {"idx": [7, 8, 9]}, base) == prints[0]  # nobody reads idx


# --- real GLUE ---------------------------------------------------------------


@pytest.mark.parametrize("name", TSV)
def test_real_glue_is_read(name, glue_dir):
    task = find_task(name)
    data = load_data(task, str(glue_dir), 50, 50)
    assert (len(data.train), len(data.dev)) == (50, 50)
    assert all(text.strip() for column in task.columns for text in data.dev[column])
    labels = set(data.train["label"]) | set(data.dev["label"])
    if task.is_regression:
        assert 0 <= min(labels) < 2 < 4 < max(labels) <= 5
    else:
        assert labels == set(range(task.outputs))


def test_a_slice_of_the_training_rows_takes_the_place_of_dev():
    whole = load_data(find_task("acceptability"), train_rows=101)
    apart = held_out(whole)
    assert (len(apart.train), len(apart.dev)) == (81, 20)
    splits = apart.train, apart.dev, whole.train
    one, other, both = ([*zip(s["sentence"], s["label"], strict=True)] for s in splits)
    assert sorted(one + other) == sorted(both)
    assert held_out(whole).fingerprint == apart.fingerprint != whole.fingerprint
    assert "20 training rows, not trained on, take the place of dev" in apart.origin
    few = held_out(load_data(find_task("acceptability"), train_rows=4))
    assert (len(few.train), len(few.dev)) == (3, 1)


@pytest.mark.parametrize(
    ("error", "offline"),
    [
        (None, False),
        (ConnectionError("no network here"), True),
        (huggingface_hub.errors.HfHubHTTPError("404", response=Mock()), False),
    ],
)
def test_a_hub_that_does_not_answer_is_asked_once_and_the_cache_read(error, offline, monkeypatch):
    places = (datasets.config, huggingface_hub.constants)
    for place in places:
        monkeypatch.setattr(place, "HF_HUB_OFFLINE", False)
    asked = Mock(side_effect=error)
    seen = []

    def load(*names):
        seen.append((names, [place.HF_HUB_OFFLINE for place in places]))
        return DatasetDict()

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", asked)
    monkeypatch.setattr(datasets, "load_dataset", load)
    load_hub.cache_clear()
    for _ in range(2):
        load_hub("owner/name", "de")
    load_hub.cache_clear()
    asked.assert_called_once_with("owner/name", timeout=5)
    assert seen == [(("owner/name", "de"), [offline, offline])]
    assert [place.HF_HUB_OFFLINE for place in places] == [False, False]
    if offline:  # and the cache does not have it
        monkeypatch.setattr(datasets, "load_dataset", Mock(side_effect=ValueError("not there")))
        with pytest.raises(ConnectionError, match="no network here"):
            load_hub("owner/name", "de")
