"""Data in every layout that GLUE comes in; what is wrong is named before anything is trained."""

import numpy as np
import pandas as pd
import pytest
from datasets.exceptions import DatasetNotFoundError

import lotterylib.data.glue
from lotterylib.data.glue import BUNDLED_ROWS, held_out, load_data
from lotterylib.errors import LotteryError
from lotterylib.tasks import BUNDLED, TASKS, find_task

QUOTED = 'He said "no, it\'s 5\'10""'
ODD = "NA"  # a word, not a missing value

TSV = {
    # folder, dev file, header, a row of three, the row's fields as (texts, label)
    "cola": (
        "CoLA",
        "dev.tsv",
        None,
        [f"gj04\t1\t\t{QUOTED}", f"gj04\t0\t*\t{ODD}", "clc95\t1\t\tFine, too."],
        [[QUOTED, ODD, "Fine, too."]],
        [1, 0, 1],
    ),
    "sst2": (
        "SST-2",
        "dev.tsv",
        "sentence\tlabel",
        [f"{QUOTED}\t0", f"{ODD}\t1", "it 's fine \t1"],
        [[QUOTED, ODD, "it 's fine "]],
        [0, 1, 1],
    ),
    "mrpc": (
        "MRPC",
        "dev.tsv",
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        [f"1\t702876\t702977\t{QUOTED}\tA", f"0\t1\t2\t{ODD}\tB", '1\t3\t4\t"c\tC"'],
        [[QUOTED, ODD, '"c'], ["A", "B", 'C"']],
        [1, 0, 1],
    ),
    "qqp": (
        "QQP",
        "dev.tsv",
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        [f"1\t11\t12\t{QUOTED}\tA?\t0", f"2\t13\t14\t{ODD}\tB?\t1", "3\t15\t16\tc?\tC?\t0"],
        [[QUOTED, ODD, "c?"], ["A?", "B?", "C?"]],
        [0, 1, 0],
    ),
    "stsb": (
        "STS-B",
        "dev.tsv",
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        [
            f"0\tmain-captions\tMSRvid\t2012test\t0001\tnone\tnone\t{QUOTED}\tA\t5.000",
            f"1\tmain-captions\tMSRvid\t2012test\t0004\tnone\tnone\t{ODD}\tB\t3.8",
            "2\tmain-news\theadlines\t2013\t0005\tnone\tnone\tc\tC\t0",
        ],
        [[QUOTED, ODD, "c"], ["A", "B", "C"]],
        [5.0, 3.8, 0.0],
    ),
    "mnli": (
        "MNLI",
        "dev_matched.tsv",
        "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\t"
        "sentence1_parse\tsentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label",
        [
            f"0\t1\t1n\tfiction\t( a )\t( b )\t(R a)\t(R b)\t{QUOTED}\tA\tneutral\tneutral",
            f"1\t2\t2e\tfiction\t( a )\t( b )\t(R a)\t(R b)\t{ODD}\tB\tneutral\tentailment",
            "2\t3\t3c\tfiction\t( a )\t( b )\t(R a)\t(R b)\tc\tC\tneutral\tcontradiction",
        ],
        [[QUOTED, ODD, "c"], ["A", "B", "C"]],
        [1, 0, 2],
    ),
    "qnli": (
        "QNLI",
        "dev.tsv",
        "index\tquestion\tsentence\tlabel",
        [
            f"0\t{QUOTED}\tA\tentailment",
            f"1\t{ODD}\tB\tnot_entailment",
            "2\tc\tC\tentailment",
        ],
        [[QUOTED, ODD, "c"], ["A", "B", "C"]],
        [0, 1, 0],
    ),
    "rte": (
        "RTE",
        "dev.tsv",
        "index\tsentence1\tsentence2\tlabel",
        [
            f"0\t{QUOTED}\tA\tnot_entailment",
            f"1\t{ODD}\tB\tentailment",
            "2\tc\tC\tentailment",
        ],
        [[QUOTED, ODD, "c"], ["A", "B", "C"]],
        [1, 0, 0],
    ),
    "wnli": (
        "WNLI",
        "dev.tsv",
        "index\tsentence1\tsentence2\tlabel",
        [f"0\t{QUOTED}\tA\t1", f"1\t{ODD}\tB\t0", "2\tc\tC\t1"],
        [[QUOTED, ODD, "c"], ["A", "B", "C"]],
        [1, 0, 1],
    ),
}


def write_tsv(root, name, train=None, dev=None):
    """Files in the layout of GLUE's own download; rows may be replaced."""
    folder, dev_file, header, rows, _, _ = TSV[name]
    (root / folder).mkdir(exist_ok=True)
    for file, lines in (("train.tsv", train), (dev_file, dev)):
        content = [*([] if header is None else [header]), *(rows if lines is None else lines)]
        (root / folder / file).write_bytes("".join(f"{line}\n" for line in content).encode())
    return root / folder


def write_parquet(root, name, train=None, dev=None, **columns):
    """Files as `nyu-mll/glue` has them; columns may be replaced or added."""
    task, (_, _, _, _, texts, labels) = find_task(name), TSV[name]
    (root / name).mkdir(exist_ok=True)
    data = dict(zip(task.columns, texts, strict=True)) | {"label": labels, "idx": [0, 1, 2]}
    for file, own in (("train", train), (task.dev_split, dev)):
        frame = pd.DataFrame(data | columns | (own or {}))
        frame.to_parquet(root / name / f"{file}.parquet")
    return root / name


def frame(split):
    return {column: list(split[column]) for column in split.column_names}


@pytest.mark.parametrize("name", TSV)
@pytest.mark.parametrize("write", [write_tsv, write_parquet])
def test_every_task_is_read_in_both_layouts(name, write, tmp_path):
    write(tmp_path, name)
    task = find_task(name)
    data = load_data(task, str(tmp_path))
    texts, labels = TSV[name][4:]
    wanted = dict(zip(task.columns, texts, strict=True)) | {"label": labels}
    assert frame(data.train) == frame(data.dev) == wanted
    assert data.train.column_names == [*task.columns, "label"]
    assert data.origin == "GLUE from a local directory; 3 of 3 training and 3 of 3 dev rows"


@pytest.mark.parametrize("name", TSV)
def test_both_layouts_hold_the_same(name, tmp_path):
    task, tsv, parquet = find_task(name), tmp_path / "tsv", tmp_path / "parquet"
    tsv.mkdir()
    parquet.mkdir()
    write_tsv(tsv, name)
    write_parquet(parquet, name)
    assert load_data(task, str(tsv)).fingerprint == load_data(task, str(parquet)).fingerprint


def test_parquet_comes_before_tsv(tmp_path):
    write_tsv(tmp_path, "rte", train=["0\tx\ty\tentailment"])
    write_parquet(tmp_path, "rte")
    assert len(load_data(find_task("rte"), str(tmp_path)).train) == 3


def test_a_part_of_a_split_is_read_and_said(tmp_path):
    folder = write_parquet(tmp_path, "rte")
    (folder / "train.parquet").rename(folder / "train_subset1000.parquet")
    data = load_data(find_task("rte"), str(tmp_path))
    assert "only a part of it: train_subset1000" in data.origin


# --- what is refused ---------------------------------------------------------


def refused(root, name):
    with pytest.raises(LotteryError) as error:
        load_data(find_task(name), str(root))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", TSV)
def test_a_missing_directory_or_folder_is_named(name, tmp_path):
    assert "nowhere does not exist" in refused(tmp_path / "nowhere", name)
    message = refused(tmp_path, name)
    assert f"{name}/train.parquet" in message
    assert f"{find_task(name).tsv_folder}/train.tsv" in message


@pytest.mark.parametrize("name", TSV)
def test_a_missing_file_is_named(name, tmp_path):
    folder = write_tsv(tmp_path, name)
    (folder / TSV[name][1]).unlink()
    assert f"{folder / TSV[name][1]} is missing" in refused(tmp_path, name)
    write_tsv(tmp_path, name)
    (folder / "train.tsv").unlink()
    assert f"{folder / 'train.tsv'} is missing" in refused(tmp_path, name)
    folder = write_parquet(tmp_path, name)
    split = find_task(name).dev_split
    (folder / f"{split}.parquet").unlink()
    assert f"{folder} lacks the file {split}.parquet" in refused(tmp_path, name)


@pytest.mark.parametrize("name", TSV)
def test_a_missing_column_is_named(name, tmp_path):
    folder = write_parquet(tmp_path, name)
    for column in (*find_task(name).columns, "label"):
        write_parquet(tmp_path, name)
        pd.read_parquet(folder / "train.parquet").drop(columns=column).to_parquet(
            folder / "train.parquet"
        )
        message = refused(tmp_path, name)
        assert "training split" in message
        assert f"lacks the column {column!r}" in message


@pytest.mark.parametrize("name", [name for name in TSV if name != "cola"])
def test_a_missing_column_of_a_tsv_is_named(name, tmp_path):
    folder = write_tsv(tmp_path, name)
    text = (folder / "train.tsv").read_text()
    header, rest = text.split("\n", 1)
    (folder / "train.tsv").write_text(header.rsplit("\t", 1)[0] + "\textra\n" + rest)
    assert "training split" in refused(tmp_path, name)
    assert "lacks the column" in refused(tmp_path, name)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("rte", -1),
        ("rte", 2),
        ("mnli", 3),
        ("mnli", -1),
        ("cola", 0.5),
        ("stsb", 5.5),
        ("stsb", -0.1),
        ("stsb", None),
        ("rte", None),
    ],
)
def test_an_unknown_label_is_named_with_its_row(name, label, tmp_path):
    good = TSV[name][5]
    write_parquet(tmp_path, name, dev={"label": [good[0], label, good[1]]})
    message = refused(tmp_path, name)
    assert "dev split" in message
    assert f"unknown label {np.nan if label is None else label:g} in row 1" in message
    accepted = "numbers from 0 to 5" if name == "stsb" else f"0 ({TASKS[name].labels[0]})"
    assert accepted in message


@pytest.mark.parametrize(
    ("name", "row", "label"),
    [
        ("rte", "0\ta\tb\tneutral", "neutral"),
        ("qnli", "0\ta\tb\t", ""),
        ("cola", "gj04\tgood\t\ta", "good"),
        ("stsb", "0\t1\t2\t3\t4\t5\t6\ta\tb\tmuch", "much"),
    ],
)
def test_an_unknown_label_text_is_named_with_its_file(name, row, label, tmp_path):
    folder = write_tsv(tmp_path, name, dev=[TSV[name][3][0], row])
    message = refused(tmp_path, name)
    assert f"{folder / 'dev.tsv'} holds the label {label!r}" in message
    assert TASKS[name].title in message


def test_an_unlabelled_tsv_is_refused(tmp_path):
    write_tsv(tmp_path, "sst2", dev=["good film\t-1"])
    assert "unknown label -1 in row 0" in refused(tmp_path, "sst2")


@pytest.mark.parametrize("label", ["0.7", "1.5", "inf"])
def test_a_fractional_class_in_a_tsv_is_refused(label, tmp_path):
    write_tsv(tmp_path, "sst2", dev=[f"good film\t{label}"])
    assert label in refused(tmp_path, "sst2")


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("rte", ["entailment", "neutral", "entailment"]),
        ("rte", ["0", "1", "0"]),
        ("stsb", ["5.0", "3.8", "0"]),
    ],
)
def test_label_texts_in_parquet_are_refused(name, labels, tmp_path):
    write_parquet(tmp_path, name, label=labels)
    assert "label" in refused(tmp_path, name)


@pytest.mark.parametrize("name", TSV)
def test_an_empty_split_is_refused(name, tmp_path):
    folder = write_parquet(tmp_path, name)
    pd.read_parquet(folder / "train.parquet").iloc[:0].to_parquet(folder / "train.parquet")
    assert f"training split of {TASKS[name].title} is empty" in refused(tmp_path, name)


@pytest.mark.parametrize("name", ["cola", "rte"])
def test_an_empty_tsv_is_refused(name, tmp_path):
    folder = write_tsv(tmp_path, name)
    (folder / "train.tsv").write_text("")
    assert f"{folder / 'train.tsv'} cannot be read" in refused(tmp_path, name)


@pytest.mark.parametrize("value", [None, 5])
@pytest.mark.parametrize("name", ["cola", "mnli"])
def test_a_row_without_text_is_refused(name, value, tmp_path):
    column = find_task(name).columns[-1]
    write_parquet(tmp_path, name, dev={column: [value] * 3})
    message = refused(tmp_path, name)
    assert "dev split" in message
    assert f"{column!r} without text" in message


@pytest.mark.parametrize("content", [b"", b"hello", b"PAR1 and more PAR1"])
def test_a_damaged_parquet_file_is_named(content, tmp_path):
    folder = write_parquet(tmp_path, "rte")
    (folder / "train.parquet").write_bytes(content)
    with pytest.raises(LotteryError, match=r"train\.parquet cannot be read as parquet"):
        load_data(find_task("rte"), str(tmp_path))


def test_a_tsv_that_is_not_utf8_is_named(tmp_path):
    folder = write_tsv(tmp_path, "sst2")
    (folder / "train.tsv").write_bytes("sentence\tlabel\ncafé\t1\n".encode("latin-1"))
    with pytest.raises(LotteryError, match=r"train\.tsv cannot be read as tab-separated"):
        load_data(find_task("sst2"), str(tmp_path))


def test_rows_longer_than_the_header_are_not_shifted(tmp_path):
    write_tsv(tmp_path, "sst2", train=["a tab\tin the text\t1", "another\tone\t0"])
    assert "train.tsv" in refused(tmp_path, "sst2")


def test_corrupted_rows_of_qqp_are_left_out_as_on_the_hub(tmp_path):
    write_tsv(tmp_path, "qqp", train=[*TSV["qqp"][3], "4\t17\t18\tonly one question"])
    assert len(load_data(find_task("qqp"), str(tmp_path)).train) == 3


@pytest.mark.parametrize("error", [ConnectionError, OSError, DatasetNotFoundError, ValueError])
def test_an_unreachable_hub_is_a_sentence(error, monkeypatch):
    def fail(*_, **__):
        raise error("no network here")

    monkeypatch.setattr(lotterylib.data.glue, "load_dataset", fail)
    with pytest.raises(LotteryError, match=r"RTE is neither in the local cache.*--data-dir.*accep"):
        load_data(find_task("rte"))


def test_the_hub_is_asked_for_the_task_and_its_dev_split(monkeypatch, tmp_path):
    from datasets import Dataset, DatasetDict

    asked = []
    rows = {"premise": ["a"], "hypothesis": ["b"], "label": [2], "idx": [0]}

    def answer(*names):
        asked.append(names)
        splits = {name: Dataset.from_dict(rows) for name in ("train", "validation_matched")}
        return DatasetDict(splits | {"test_matched": Dataset.from_dict(rows | {"label": [-1]})})

    monkeypatch.setattr(lotterylib.data.glue, "load_dataset", answer)
    data = load_data(find_task("mnli"))
    assert asked == [("nyu-mll/glue", "mnli")]
    assert frame(data.dev) == {"premise": ["a"], "hypothesis": ["b"], "label": [2]}
    assert data.origin.startswith("nyu-mll/glue from the Hugging Face hub; 1 of 1")


# --- which rows --------------------------------------------------------------


def numbered(root, rows=50, first=0):
    root.mkdir(exist_ok=True)
    (root / "sst2").mkdir()
    for split in ("train", "validation"):
        texts = [f"{split} {first + number}" for number in range(rows)]
        table = pd.DataFrame({"sentence": texts, "label": [n % 2 for n in range(rows)]})
        table.to_parquet(root / "sst2" / f"{split}.parquet")
    return str(root)


def test_a_budget_draws_the_same_rows_whatever_was_drawn_before(tmp_path):
    root, task = numbered(tmp_path / "a"), find_task("sst2")
    one = load_data(task, root, 20, 10)
    np.random.default_rng(0).random(100)
    np.random.seed(7)
    load_data(task, root, 5, 5)
    again = load_data(task, root, 20, 10)
    assert frame(one.train) == frame(again.train)
    assert frame(one.dev) == frame(again.dev)
    assert one.fingerprint == again.fingerprint
    assert frame(load_data(task, root, 20, 0).train) == frame(one.train)
    assert "20 of 50 training and 10 of 50 dev rows" in one.origin


def test_a_draw_is_without_repetition_in_the_order_of_the_file(tmp_path):
    data = load_data(find_task("sst2"), numbered(tmp_path / "a"), 20, 0)
    numbers = [int(text.split()[1]) for text in data.train["sentence"]]
    labels = list(data.train["label"])
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 20
    assert numbers != list(range(20))
    assert all(label == number % 2 for number, label in zip(numbers, labels, strict=True))


@pytest.mark.parametrize("rows", [0, 50, 51, 10**6])
def test_no_limit_or_one_that_is_not_reached_takes_all(rows, tmp_path):
    data = load_data(find_task("sst2"), numbered(tmp_path / "a"), rows, rows)
    assert data.train["sentence"][:] == [f"train {number}" for number in range(50)]
    assert len(data.dev) == 50


def test_the_fingerprint_follows_texts_labels_order_and_rows(tmp_path):
    task = find_task("sst2")
    base = {"sentence": ["a", "b", "c"], "label": [0, 1, 0]}
    variants = [
        base,
        base | {"sentence": ["a", "b", "d"]},
        base | {"label": [0, 1, 1]},
        {"sentence": ["b", "a", "c"], "label": [1, 0, 0]},
        {"sentence": ["a", "b"], "label": [0, 1]},
    ]
    (tmp_path / "sst2").mkdir()
    pd.DataFrame(base).to_parquet(tmp_path / "sst2" / "validation.parquet")
    prints = []
    for variant in variants:
        pd.DataFrame(variant).to_parquet(tmp_path / "sst2" / "train.parquet")
        prints.append(load_data(task, str(tmp_path)).fingerprint)
    assert len(set(prints)) == len(variants)
    pd.DataFrame(base).to_parquet(tmp_path / "sst2" / "train.parquet")
    pd.DataFrame(variants[1]).to_parquet(tmp_path / "sst2" / "validation.parquet")
    assert load_data(task, str(tmp_path)).fingerprint not in prints


def test_columns_that_are_not_used_do_not_count(tmp_path):
    task = find_task("rte")
    write_parquet(tmp_path, "rte")
    before = load_data(task, str(tmp_path)).fingerprint
    write_parquet(tmp_path, "rte", idx=[7, 8, 9])
    assert load_data(task, str(tmp_path)).fingerprint == before


@pytest.mark.parametrize("name", BUNDLED)
def test_generated_tasks_need_no_files(name):
    task = find_task(name)
    data = load_data(task, "", 30, 20)
    assert (len(data.train), len(data.dev)) == (30, 20)
    assert data.train.column_names == [*task.columns, "label"]
    total = f"30 of {BUNDLED_ROWS['train']} training and 20 of {BUNDLED_ROWS['validation']}"
    assert data.origin == f"generated by lotterylib; {total} dev rows"
    assert data.fingerprint == load_data(task, "", 30, 20).fingerprint


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


def test_a_slice_of_the_training_rows_takes_the_place_of_dev(tmp_path):
    whole = load_data(find_task("acceptability"), train_rows=101)
    apart = held_out(whole)
    assert (len(apart.train), len(apart.dev)) == (81, 20)
    rows = [*zip(apart.train["sentence"], apart.train["label"], strict=True)]
    rows += zip(apart.dev["sentence"], apart.dev["label"], strict=True)
    assert sorted(rows) == sorted(zip(whole.train["sentence"], whole.train["label"], strict=True))
    assert len({whole.fingerprint, apart.fingerprint}) == 2
    assert held_out(whole).fingerprint == apart.fingerprint
    assert "20 training rows, not trained on, take the place of dev" in apart.origin
