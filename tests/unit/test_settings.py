"""Every mistake in a run's parameters is a sentence that names the parameter."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lotterylib.errors import LotteryError
from lotterylib.runs.methods import METHODS, SEVERAL_SEEDS
from lotterylib.runs.presets import BUDGETS
from lotterylib.runs.request import given_from_outside, impossible, pages_folder, read_file
from lotterylib.runs.settings import check_parameters, given_by, names, parse_settings
from lotterylib.tasks import TASKS

TEXTS = ("task", "encoder", "preset", "budget", "batch_order", "data_dir", "store")
COUNTS = ("train_rows", "dev_rows", "epochs")


def parsed(**changes):
    return parse_settings(**({"task": "rte"} | changes))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"task": "ret"}, "Unknown task 'ret'. Did you mean 'rte'?"),
        ({"task": ""}, "Unknown task ''."),
        ({"encoder": ""}, "Unknown encoder ''"),
        ({"encoder": "minilim"}, "Unknown encoder 'minilim'. Did you mean 'minilm'?"),
        ({"encoder": "no/such/folder"}, "Unknown encoder 'no/such/folder'."),
        ({"preset": "Paper"}, "Unknown preset 'Paper'. Did you mean 'paper'?"),
        ({"budget": "smok"}, "Unknown budget 'smok'. Did you mean 'smoke'?"),
        ({"batch_order": "bucket"}, "Unknown batch_order 'bucket'. Did you mean 'buckets'?"),
        ({"store": ""}, "The parameter store is empty"),
        ({"store": "a\0b"}, "which cannot be a folder's path"),
        ({"data_dir": "nowhere"}, "The data directory nowhere does not exist"),
        ({"threshold": 0.0}, "threshold is 0.0: it must be above 0 and at most 1"),
        ({"warmup": 1.0}, "warmup is 1.0: it must be at least 0 and below 1"),
        ({"halves": 0}, "halves is 0: it must be at least 1 and at most 1000"),
        ({"batch_size": 0}, "batch_size is 0: it must be at least 1"),
        ({"stale_importance": "yes"}, "of type str: it must be true or false"),
        ({"precision": "half"}, "Unknown precision 'half'. Accepted: auto, float32, bfloat16"),
        ({"learning_rate": float("nan")}, "learning_rate is nan: it must not be negative or inf"),
        ({"learning_rate": float("inf")}, "learning_rate is inf: it must not be negative or inf"),
        *(({name: -1}, f"parameter {name} is -1: it must not be negative") for name in COUNTS),
        ({"draws": "structred=2"}, "method in draws 'structred'. Did you mean 'structured'"),
        ({"draws": 0}, "The parameter draws is 0: give a whole number from 1"),
        ({"draws": 1001}, "The parameter draws is 1001: give a whole number from 1 to 1000"),
        ({"draws": True}, "The parameter draws is True"),
    ],
)
def test_what_is_not_accepted_is_refused_with_what_would_be(given, message):
    with pytest.raises(LotteryError) as error:
        parsed(**given)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_wrong_types_are_refused_by_name():
    wrong = [(name, value) for name in TEXTS for value in (3, True, ["rte"], Path("x"))]
    wrong += [(name, value) for name in COUNTS for value in (True, False, "3", 3.5, [1])]
    wrong += [("learning_rate", value) for value in (True, "1e-4", [1e-4])]
    for name, value in wrong:
        told = f"parameter {name} is .*of type {type(value).__name__}: it must be"
        with pytest.raises(LotteryError, match=told):
            parsed(**{name: value})
    with pytest.raises(LotteryError, match="must be a text: example, batch, cumulative"):
        parsed(importance=3)


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        (" , ,", "list of seeds is empty"),
        ([1, "1"], "seeds 1, 1 repeat"),
        *(([bad], f"seed {bad!r} is not a whole") for bad in (-1, 1.0, True, None, "one", "1;2")),
        *(([bad], f"{bad} is too large") for bad in (2**32, "9" * 5000)),
        (True, "parameter seeds is True"),
        ({1: 2}, "parameter seeds is"),
    ],
)
def test_bad_seeds_are_refused(seeds, message):
    with pytest.raises(LotteryError) as error:
        parsed(seeds=seeds)
    assert message in str(error.value)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=6, unique=True), st.booleans())
@settings(max_examples=40, deadline=None)
def test_seeds_are_read_from_lists_and_texts(seeds, spaced):
    text = (" , " if spaced else ",").join(map(str, seeds))
    for given_seeds in (seeds, np.array(seeds), text, text + ",", [str(seed) for seed in seeds]):
        assert parsed(seeds=given_seeds).seeds == tuple(seeds)
    assert parsed(seeds=seeds[0]).seeds == (seeds[0],)


@pytest.mark.parametrize("budget", BUDGETS)
def test_what_is_not_given_is_the_budgets(budget):
    amount, result = BUDGETS[budget], parsed(budget=budget)
    assert {name: getattr(result, name) for name in amount} == amount
    changed = parsed(budget=budget, train_rows=7, dev_rows=8, epochs=9, seeds=[3])
    assert (changed.train_rows, changed.dev_rows, changed.epochs, changed.seeds) == (7, 8, 9, (3,))


def test_names_become_rows_of_the_tables(tmp_path, monkeypatch):
    result = parsed(task="STS-B", learning_rate=1, data_dir=str(tmp_path), store="elsewhere")
    assert result.task is TASKS["stsb"]
    assert type(result.learning_rate) is float
    assert (result.store, result.data_dir) == (Path("elsewhere"), str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))  # a shell may leave the tilde
    assert parsed(store="~/runs").store == tmp_path / "runs"


# --- a notebook's variables --------------------------------------------------


def test_a_notebooks_parameters_are_taken_from_its_variables():
    given = {"task": "cola", "seeds": "1,2", "budget": "smoke"}
    others = ("__name__", "Out", "_", "_i1", "get_ipython", "exit", "open", "check_parameters")
    others += ("_seed", "figure", "results", "plt", "np", "x")
    namespace = given | {"In": ["", "task = 'cola'"]} | dict.fromkeys(others, 1)
    assert check_parameters(namespace) == parse_settings(**given)


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [("seed", "seeds"), ("trainrows", "train_rows"), ("Task", "task"), ("data_dri", "data_dir")],
)
def test_a_variable_that_is_nearly_a_parameter_is_refused(misspelt, meant):
    with pytest.raises(LotteryError, match=f"{misspelt!r}. Did you mean {meant!r}"):
        check_parameters({"task": "rte", misspelt: 1})


def test_a_page_that_compares_seeds_says_how_many_it_needs():
    assert len(check_parameters({"task": "cola", "seeds": "1,2"}, least_seeds=2).seeds) == 2
    with pytest.raises(LotteryError, match="needs at least 2 of them, not 1"):
        check_parameters({"task": "cola", "seeds": "1337"}, least_seeds=2)


def test_a_preset_is_a_row_of_choices_and_each_can_be_made_otherwise():
    official = parsed(preset="official", threshold=0.95, importance="batch")
    assert (official.threshold, official.importance) == (0.95, "batch")
    assert official.stale_importance is True
    assert official.how == "official, threshold=0.95, importance=batch"
    assert parsed(preset="official").how == "official"
    assert parsed(learning_rate=1e-3, halves=2).how == "paper"
    nothing = dict.fromkeys(name for name in names() if name != "task")  # None is the default
    assert parsed(**nothing | {"preset": "official"}) == parsed(preset="official")


@pytest.mark.parametrize("changes", [{}, {"preset": "official", "threshold": 0.95}, {"draws": 3}])
def test_what_is_given_by_settings_leads_to_them(changes):
    made = parsed(**changes)
    assert parse_settings(**given_by(made)) == made
    assert set(changes) <= set(given_by(made))


def test_draws_are_by_method_and_only_of_what_is_drawn():
    def counts(phase="pruned", **changes):
        made = parsed(**changes)
        return [made.draws_of(m, k, phase) for m in METHODS for k in ("good", "random", "bad")]

    assert counts(draws=3) == counts("retrained", draws=3) == [1, 3, 3] * 2
    assert counts("longer", draws=3) == counts("from scratch", draws=3) == [1] * 6
    assert counts(draws="structured=1000") == [1, 1000, 1000, 1, 1, 1]
    assert counts(draws=3, preset="official") == [1, 3, 3, 1, 3, 1]
    more = parsed(draws=3, halves=4)
    assert more.draws_of("structured-half-dev", "good", "pruned") == 4
    assert more.draws_of("structured-train", "good", "pruned") == 1
    assert more.draws_of("heads", "random", "pruned") == 1


def test_whatever_papermill_injects_must_be_a_parameter():
    cells = ["", "task = 'cola'", "# Parameters\nthreshold = 0.95\nthrshold_of_mine = 1\n"]
    with pytest.raises(LotteryError, match="Unknown parameter 'thrshold_of_mine'"):
        check_parameters({"task": "cola", "In": cells, "thrshold_of_mine": 1})
    cells[2] = "# Parameters\nthreshold = 0.95\n"
    assert check_parameters({"task": "cola", "In": cells, "threshold": 0.95}).threshold == 0.95


def test_a_file_of_parameters_is_read_with_its_lines(tmp_path):
    file = tmp_path / "run.yml"
    file.write_text("tasks: [rte, cola]\nlearning_rate: 1e-4\nseeds: 1,2\nthreshold: 0.95\n")
    found = {"tasks": ["rte", "cola"], "learning_rate": 1e-4, "seeds": "1,2", "threshold": 0.95}
    assert read_file(file) == found
    over = given_from_outside(str(file), ["threshold=0.8", "epochs=2"], {"epochs": "4"})
    assert over == found | {"threshold": 0.8, "epochs": 4}
    for text, said in (
        ("threshold: 0.9\nthreshhold: 1", "line 2: Unknown parameter 'threshhold'. Did you mean"),
        ("epochs: two", "line 1: The parameter epochs is 'two': it must be a whole number"),
        ("epochs: 1\nseeds: 1\nepochs: 2", "line 3: 'epochs' stands there for the 2nd time."),
    ):
        file.write_text(text)
        with pytest.raises(LotteryError) as error:
            read_file(file)
        assert f"{file}, {said}" in str(error.value)
    with pytest.raises(LotteryError, match="give a name and a value"):
        given_from_outside("", ["threshold"], {})
    with pytest.raises(LotteryError, match="does not exist"):
        read_file(tmp_path / "none.yml")


def test_what_only_tries_things_out_stays_out_of_the_book():
    tiny, few = parsed(encoder="tiny"), BUDGETS["smoke"]["train_rows"]
    trials = (tiny, parsed(budget="smoke"), parsed(train_rows=few), parsed(dev_rows=3))
    assert {Path(pages_folder(each)).name for each in trials} == {"trial"}
    kept = (parsed(), parsed(budget="full"), parsed(train_rows=few + 1))
    assert {Path(pages_folder(each)).name for each in kept} == {"results"}


def test_what_cannot_be_made_is_known_beforehand():
    assert impossible(parsed(seeds=[1, 2]), dev_rows=2) == {}
    assert impossible(parsed(seeds=[1]), dev_rows=20).keys() == set(SEVERAL_SEEDS)
    assert impossible(parsed(seeds=[1, 2]), dev_rows=1).keys() == {"10_variants"}
