"""Metrics equal the libraries'; constant predictors are named; batches do not matter."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics

import lotterylib.scoring
from lotterylib.scoring import decide, evaluate, score_predictions
from lotterylib.tasks import find_task

COLA, MNLI, STSB = find_task("cola"), find_task("mnli"), find_task("stsb")


@pytest.mark.parametrize("seed", range(2))
def test_classification_metrics_equal_sklearns(seed):
    draw = np.random.default_rng(seed)
    truth, guess = draw.integers(0, 2, 50), draw.integers(0, 2, 50)
    score = score_predictions(guess, truth, COLA)
    both = ((guess == 1) & (truth == 1)).sum()
    assert score.metrics == {
        "accuracy": pytest.approx((truth == guess).mean()),
        "matthews": pytest.approx(metrics.matthews_corrcoef(truth, guess)),
        "f1": pytest.approx(2 * both / (guess.sum() + truth.sum())),
    }
    assert not score.constant
    assert score.predictions == tuple(guess.tolist())
    assert score.examples == 50
    three = draw.integers(0, 3, 50)
    assert score_predictions(three, truth, MNLI).metrics == {
        "accuracy": pytest.approx((truth == three).mean()),
        "matthews": pytest.approx(metrics.matthews_corrcoef(truth, three)),
    }


@pytest.mark.parametrize("seed", range(2))
def test_regression_metrics_equal_scipys(seed):
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, 6, 40).astype(float)
    guess = truth + draw.normal(size=40)
    score = score_predictions(guess, truth, STSB)
    pearson, spearman = np.corrcoef(guess, truth)[0, 1], stats.spearmanr(guess, truth)[0]
    assert score.metrics == {
        "pearson": pytest.approx(pearson),
        "spearman": pytest.approx(spearman),
        "pearson_spearman": pytest.approx((pearson + spearman) / 2),
    }
    assert score.predictions == pytest.approx(guess.tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("guess", "truth"), [([0.0] * 3, [1.0, 2, 3]), ([2.7] * 3, [1.0, 2, 3]), ([1.0, 2], [3.0] * 2)]
)
@pytest.mark.filterwarnings("error")
def test_constant_predictors_and_constant_labels_have_no_correlation(guess, truth):
    score = score_predictions(guess, truth, STSB)
    assert score.constant == (len(set(guess)) == 1)
    assert score.metrics == {"pearson": 0.0, "spearman": 0.0, "pearson_spearman": 0.0}


@pytest.mark.parametrize("code", [0, 1])
def test_a_constant_class_is_named_and_scores_its_share(code):
    truth = np.array([1, 1, 1, 0])
    score = score_predictions(np.full(4, code), truth, COLA)
    assert score.constant
    assert score.metrics["accuracy"] == (truth == code).mean()
    assert score.metrics["matthews"] == 0.0
    assert score.metrics["f1"] == pytest.approx(6 / 7 if code else 0.0)
    alone = score_predictions(np.full(4, code), np.full(4, code), COLA)  # one class in all
    assert alone.metrics == {"accuracy": 1.0, "matthews": 0.0, "f1": float(code)}


@pytest.mark.parametrize("name", ["acceptability", "similarity"])
def test_predictions_do_not_depend_on_the_batches(name, tiny_model, encoded, monkeypatch):
    task, split = find_task(name), encoded(name, 21)
    model = tiny_model(name, rough=0.3)
    with torch.no_grad():  # so that both classes are predicted
        inputs, _ = split.batch(range(21), torch.device("cpu"))
        model.classifier.bias -= model(**inputs).logits.mean(0)
    whole = evaluate(model, split, task).predictions
    monkeypatch.setattr(lotterylib.scoring, "EVALUATION_BATCH", 7)
    assert evaluate(model, split, task).predictions == pytest.approx(whole, abs=2e-5)
    assert len(set(whole)) > 1
    alone = []
    for row in range(21):  # in the order of the split
        inputs, _ = split.batch([row], torch.device("cpu"))
        with torch.no_grad():
            alone += decide(model(**inputs).logits, task).tolist()
    assert whole == pytest.approx(alone, abs=2e-5)


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_turns_dropout_off_and_the_mode_back(training, tiny_model, encoded):
    split, task = encoded("similarity", 8), find_task("similarity")
    model = tiny_model("similarity", rough=0.3).train(training)
    assert evaluate(model, split, task) == evaluate(model, split, task)
    assert model.training is training
