"""Pages know the request that made them: no other replaces them, joins them or counts as it."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, get_args, get_origin

import pandas as pd
import pytest

from lotterylib.cli import main
from lotterylib.data.pretrained import find_encoder
from lotterylib.errors import LotteryError
from lotterylib.report import identity, pages
from lotterylib.report.published import load_patterns, load_subnetworks
from lotterylib.report.results import COLUMNS, load_results
from lotterylib.runs import experiment as experiments
from lotterylib.runs.request import pages_folder
from lotterylib.runs.settings import Settings, parse_settings
from lotterylib.subnetworks import full_subnetwork
from lotterylib.tasks import find_task

BASE = parse_settings("rte", encoder="tiny", seeds=[1, 2], store="runs")
ENCODER = find_encoder("tiny")
PAGE = "04_subnetworks"


def made(settings=BASE, encoder=ENCODER, data="abc", rows=(10, 5)):
    """What an experiment would be, without its examples."""
    splits = [[None] * count for count in rows]
    examples = SimpleNamespace(train=splits[0], dev=splits[1], fingerprint=data)
    recipe = SimpleNamespace(learning_rate=settings.learning_rate or encoder.learning_rate)
    return SimpleNamespace(
        settings=settings, task=settings.task, encoder=encoder, data=examples, recipe=recipe
    )


def another(name):
    """Another value of a setting."""
    value, kind = getattr(BASE, name), Settings.model_fields[name].annotation
    if get_origin(kind) is Literal:
        return next(each for each in get_args(kind) if each != value)
    if isinstance(value, bool):
        return not value
    special = {
        "preset": "official",
        "budget": "full",
        "seeds": (2, 1),
        "draws": (("magnitude", 2), ("structured", 1)),
        "task": replace(BASE.task, metric="f1"),
        "store": Path("elsewhere"),
    }
    if name in special:
        return special[name]
    return value + 1 if isinstance(value, int | float) else "else"


COMPARED = [n for n in Settings.model_fields if n not in identity.PASSING and n != "encoder"]
VARIANTS = {
    **{
        name: made(BASE.but(**{name: another(name)}))
        for name in COMPARED
        if name not in ("train_rows", "dev_rows")
    },
    "seeds": made(BASE.but(seeds=another("seeds"))),
    "task_metric": made(BASE.but(task=another("task"))),
    "train_rows": made(rows=(11, 5)),
    "dev_rows": made(rows=(10, 6)),
    "data": made(data="abd"),
    "weights": made(encoder=replace(ENCODER, sha256="1" * 64)),
}


def request_of(experiment):
    """What stands in the folder of an experiment with a page."""
    (whole,) = identity.requests_of([(experiment, [PAGE])], Path()).values()
    return whole


def differing(folder, wanted):
    """What is named when these are refused."""
    with pytest.raises(
        LotteryError, match=r"give --replace .* another folder with --pages\.$"
    ) as e:
        identity.refuse_others({folder: wanted})
    told = str(e.value).partition(" (")[2].rpartition("): ")[0]
    return {part.split(" ")[0] for part in told.split("; ")}


def placed(folder, whole):
    """A folder where this stands as what made it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / identity.REQUEST).write_text(json.dumps(whole))
    return folder


def test_any_two_requests_are_told_apart_by_what_differs(tmp_path):
    """Every setting, seeds, rows, data, weights, each against each and against what is usual."""
    folder = placed(tmp_path / "tiny" / "rte", request_of(made()))
    (folder / f"{PAGE}.ipynb").write_text("a page")
    requests = {name: request_of(each) for name, each in VARIANTS.items()}
    for first, whole in {"nothing": request_of(made()), **requests}.items():
        placed(folder, whole)
        identity.refuse_others({folder: json.loads(json.dumps(whole))})
        for second in requests.keys() - {first}:
            assert differing(folder, requests[second]) == {first, second} - {"nothing"}
    placed(folder, request_of(made()))
    with pytest.raises(LotteryError, match=r"\(threshold 0\.9 there, 1\.9 here\): give --replace"):
        identity.refuse_others({folder: requests["threshold"]})


@pytest.mark.parametrize("name", ["data_dir", "store", "device", "threads"])
def test_where_things_lie_and_what_computes_is_not_compared(name):
    other = made(BASE.but(**{name: another(name)}))
    assert identity.identity_of(other) == identity.identity_of(made())


def test_a_setting_that_did_not_exist_yet_had_its_default(tmp_path):
    whole = request_of(made())
    del whole["request"]["threshold"]
    folder = placed(tmp_path / "tiny" / "rte", whole)
    identity.refuse_others({folder: request_of(made())})
    assert differing(folder, request_of(VARIANTS["threshold"])) == {"threshold"}


def publish(pages, experiment, *, replace=False, wanted=(PAGE,)):
    """Take the folder of an experiment, with a page and a table in it."""
    mine = identity.requests_of([(experiment, list(wanted))], pages)
    identity.claim(mine, replace=replace)
    ((folder, whole),) = mine.items()
    for page in wanted:
        (folder / f"{page}.ipynb").write_text("a page")
    row = whole["request"] | {"draw": 0, "request": identity.digest(whole["request"])}
    pd.DataFrame([row], columns=list(COLUMNS)).to_csv(folder / "results.csv", index=False)
    return folder


def test_what_is_replaced_goes_whole_and_the_overview_with_it(tmp_path):
    folder = publish(tmp_path, made(), wanted=(PAGE, "05_stability", "10_variants"))
    overview = folder.parent / "overview" / "08_overview.ipynb"
    overview.parent.mkdir()
    for path in ("notes.txt", "notes.failed.ipynb", f"{PAGE}.failed.ipynb", overview):
        (folder / path).touch()
    there = sorted(folder.iterdir())
    publish(tmp_path, made(), replace=True)  # the same request: nothing goes
    assert sorted(folder.iterdir()) == there
    assert overview.is_file()
    publish(tmp_path, made(BASE.but(seeds=(1,))), replace=True)
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"{PAGE}.ipynb", "notes.failed.ipynb", "notes.txt", "request.json", "results.csv")
    ]
    assert not overview.exists()
    assert identity.read_request(folder)["seeds"] == {PAGE: [1]}


def test_a_request_may_add_pages_with_fewer_seeds(tmp_path):
    folder = publish(tmp_path, made())
    few = made(BASE.but(seeds=(1,)))
    publish(tmp_path, few, wanted=["10_variants"])
    assert identity.read_request(folder)["seeds"] == {PAGE: [1, 2], "10_variants": [1]}
    with pytest.raises(LotteryError, match=r"\(seeds 1 there, 1, 2 here\)"):
        publish(tmp_path, made(), wanted=[PAGE, "10_variants"])


@pytest.mark.parametrize("damage", ["gone", "no JSON", "[]", '{"request": 1, "seeds": {}}'])
def test_pages_of_which_nobody_knows_what_made_them_are_neither_replaced_nor_read(damage, tmp_path):
    folder = publish(tmp_path, made())
    file = folder / identity.REQUEST
    file.unlink() if damage == "gone" else file.write_text(damage)
    with pytest.raises(LotteryError, match=r"not on record in request\.json\): give --replace"):
        publish(tmp_path, made())
    for read in (
        lambda: load_results(tmp_path),
        lambda: load_subnetworks(tmp_path, "tiny"),
        lambda: load_patterns(tmp_path, "tiny"),
    ):
        with pytest.raises(LotteryError, match=r"no request\.json that says what made its pages"):
            read()
    publish(tmp_path, made(), replace=True)
    assert len(load_results(tmp_path)) == 1


def test_a_table_of_another_request_is_not_read(tmp_path):
    folder = publish(tmp_path, made())
    other = publish(tmp_path / "other", VARIANTS["learning_rate"])
    (other / "results.csv").replace(folder / "results.csv")
    with pytest.raises(LotteryError, match=r"results\.csv was made by another request than"):
        load_results(tmp_path)


def of_cola(**changes):
    return made(BASE.but(task=find_task("cola"), **changes))


@pytest.mark.parametrize("name", identity.SHARED)
def test_tasks_that_the_overview_would_mix_do_not_share_a_folder(name, tmp_path):
    """Two encoders of one name, results of two versions, searches done in two ways."""
    folder = publish(tmp_path, made())
    whole = identity.read_request(folder)
    whole["request"][name] = "other"
    placed(folder, whole)
    told = rf"rte holds pages that must not be counted together .*\({name} other there.*--pages\.$"
    for replaced in (False, True):
        with pytest.raises(LotteryError, match=told):
            publish(tmp_path, of_cola(), replace=replaced)
    placed(tmp_path / "tiny" / "cola", request_of(of_cola()))
    (folder / "results.csv").touch()
    with pytest.raises(LotteryError, match=f"must not be counted together .*{name}"):
        load_results(tmp_path)


def test_tasks_may_differ_in_amounts_and_rates_and_are_replaced_together(tmp_path):
    publish(tmp_path, made())
    publish(tmp_path, of_cola(epochs=9, learning_rate=0.5, seeds=(7,)))
    assert set(load_results(tmp_path)["task"]) == {"rte", "cola"}
    both = [(made(BASE.but(threshold=0.8)), [PAGE]), (of_cola(threshold=0.8), [PAGE])]
    with pytest.raises(LotteryError, match=r"\(threshold 0\.9 there, 0\.8 here\): give --replace"):
        identity.claim(identity.requests_of(both, tmp_path))
    identity.claim(identity.requests_of(both, tmp_path), replace=True)
    assert {each["threshold"] for each in identity.requests(tmp_path, "tiny").values()} == {0.8}


def test_the_audit_of_other_masks_is_another():
    whole = full_subnetwork(SimpleNamespace(layers=2, heads=2))
    less = whole.complement(("heads",))
    families = [{42: whole}, {42: whole, 86: whole}, {42: less}]
    seen = [identity.masks_identity({"bad": {"rte": seeds}})["masks"] for seeds in families]
    assert len(set(seen)) == 3


def test_runs_that_only_try_things_out_stay_out_of_the_book():
    for folder, requests in {
        "book/results": ({}, {"budget": "full"}, {"train_rows": 49, "dev_rows": 33}),
        "trial": ({"budget": "smoke"}, {"encoder": "tiny"}, {"dev_rows": 32}, {"train_rows": 48}),
    }.items():
        for given in requests:
            assert pages_folder(parse_settings("rte", **given)) == folder


# As a user meets it


@pytest.fixture
def lottery(monkeypatch, tmp_path, capsys):
    """`lottery run` of a generated task, on few rows, up to where computing would begin."""
    notebooks = Path(__file__).parents[2] / "notebooks"

    def enough(plan, *_):
        raise LotteryError("It would compute.")

    monkeypatch.setattr(pages, "render_all", enough)
    monkeypatch.setattr(experiments, "RESULTS_VERSION", 2)

    def run(*options, encoder="tiny"):
        given = ["acceptability", "--encoder", str(encoder), "--train-rows", "60", *options]
        places = ["--store", str(tmp_path / "runs"), "--pages", str(tmp_path / "pages")]
        assert main(["run", *given, *places, "--notebooks", str(notebooks)]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    return run


def settle(tmp_path, encoder="tiny", **given):
    """The pages of such a run, as far as they are compared."""
    settings = parse_settings("acceptability", encoder=str(encoder), train_rows=60, **given)
    opened = experiments.open_experiment(settings)
    return publish(tmp_path / "pages", opened)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--learning-rate", "1e-3"], ""),  # as the encoder's own
        (["--seeds", "42,1337"], "seeds 1337, 42 there, 42, 1337 here"),
        (["--set", "threshold=0.95"], "threshold 0.9 there, 0.95 here"),
    ],
)
def test_another_request_is_refused_before_anything_is_computed(lottery, tmp_path, options, told):
    settle(tmp_path)
    said = lottery(*options)
    if told:
        assert told in said
        assert said.endswith("give --replace to replace them, or name another folder with --pages.")
        assert not (tmp_path / "runs").exists()
        said = lottery(*options, "--replace")
    assert said == "lottery: It would compute."


def test_two_encoders_of_one_folder_name_never_share_a_place(
    lottery, tmp_path, tiny_model, tiny_tokenizer, capsys
):
    folders = [tmp_path / name / "checkpoint-500" for name in "ab"]
    for seed, folder in enumerate(folders):
        tiny_model(seed=seed).base_model.save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
    settle(tmp_path, encoder=folders[0], max_length=32)
    said = lottery("--set", "max_length=32", encoder=folders[1])
    assert "checkpoint-500/acceptability holds pages of another request (weights " in said
    pages = ["--pages", str(tmp_path / "pages")]
    assert main(["overview", "--encoder", str(folders[1]), *pages]) == 2
    assert "(weights " in capsys.readouterr().err


def test_a_configuration_is_what_it_says_whatever_version_wrote_it(tmp_path):
    encoder, sums = replace(ENCODER, directory=tmp_path), []
    for config in (
        {"layers": 3, "transformers_version": "1"},
        {"transformers_version": "2", "layers": 3, "_name_or_path": "elsewhere"},
        {"layers": 4, "transformers_version": "1"},
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        sums.append(identity.encoder_identity(encoder)["config"])
    assert sums[0] == sums[1] != sums[2]
