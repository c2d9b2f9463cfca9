"""Baselines: what a search must be compared with."""

import dataclasses
import string
import warnings

import numpy as np
import pytest
import torch
from datasets import Dataset
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import (
    BertTokenizer,
    DistilBertTokenizer,
    ElectraTokenizer,
    MPNetTokenizer,
    RobertaTokenizer,
)

from lotterylib.baselines import (
    bag_of_embeddings_score,
    bilstm_score,
    frozen_score,
    majority_score,
    random_guess_score,
)
from lotterylib.batches import Encoded, encode
from lotterylib.tasks import find_task
from tests.models import KINDS

COLA, STSB, RTE = find_task("cola"), find_task("stsb"), find_task("rte")


@pytest.fixture(autouse=True)
def _small_bilstm(monkeypatch):
    small = {"UNITS": 16, "EPOCHS": 4, "BATCH": 16, "LEARNING_RATE": 1e-2}
    for name, value in small.items():
        monkeypatch.setattr(f"lotterylib.baselines.{name}", value)


def test_the_majority_is_that_of_the_training_labels():
    score = majority_score(np.array([0, 1, 1]), np.array([0, 0, 0, 1]), COLA)
    assert (score.predictions, score.metrics["accuracy"]) == ((1, 1, 1, 1), 0.25)
    mean = majority_score(np.array([1.0, 2.0, 4.5]), np.array([0.0, 5.0]), STSB)
    assert (mean.predictions, mean.metrics["pearson"]) == ((2.5, 2.5), 0.0)
    assert score.constant
    assert mean.constant


def test_random_guesses_are_distributed_like_the_training_labels():
    train, dev = torch.tensor([1.0, 1.0, 3.0, 3.0] * 50), torch.linspace(0, 5, 4000)
    splits = [Encoded([{"input_ids": []}] * len(labels), labels, None) for labels in (train, dev)]
    score = random_guess_score(None, *splits, STSB)
    assert np.mean(score.predictions) == pytest.approx(2, abs=0.06)
    assert np.std(score.predictions) == pytest.approx(1, abs=0.04)
    assert abs(score.metrics["pearson"]) < 0.06
    assert random_guess_score(None, *splits, STSB) == score


def letters(task, rows, tokenizer, seed):
    """A split in which the share of one letter decides, whatever the length of the text."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(4, 30, rows)
    shares = draw.integers(0, 2, rows) if task == "acceptability" else draw.random(rows)
    counts = np.rint(lengths * shares).astype(int)
    texts = ["a" * a + "b" * (n - a) for a, n in zip(counts, lengths, strict=True)]
    if task == "acceptability":
        data = {"sentence": texts, "label": shares.tolist()}
    else:
        data = {"sentence1": texts, "sentence2": texts, "label": (5 * counts / lengths).tolist()}
    return encode(Dataset.from_dict(data), find_task(task), tokenizer)


def frozen_by_hand(model, split):
    """Every text read by itself, so that there is no padding."""
    rows = []
    for row in range(len(split)):
        inputs, _ = split.batch([row], model.device)
        hidden = model.base_model(**inputs).last_hidden_state[0].detach().numpy()
        rows.append(np.hstack([hidden[0], hidden.mean(0)]))
    return np.array(rows)


@pytest.mark.parametrize("name", ["acceptability", "similarity"])
def test_a_frozen_encoder_is_read_at_its_first_token_and_at_the_mean(
    name, tiny_model, tiny_tokenizer
):
    task, model = find_task(name), tiny_model(name, rough=0.1)
    train, dev = (letters(name, rows, tiny_tokenizer, rows) for rows in (60, 30))
    fitted = linear(task).fit(frozen_by_hand(model, train), train.labels.numpy())
    model.classifier.bias.data.fill_(7.0)  # plays no part
    before = {name: value.clone() for name, value in model.state_dict().items()}
    score = frozen_score(model, train, dev, task)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    expected = fitted.predict(frozen_by_hand(model, dev))
    assert score.predictions == pytest.approx(expected.tolist(), abs=1e-2)
    assert score.metrics[task.metric] > 0.95
    assert len(set(score.predictions)) > 1


LETTERS = string.ascii_lowercase


def small_tokenizer(family):
    """The family's own tokenizer, over letters."""
    inside = [f"##{letter}" for letter in LETTERS]
    if family == "roberta":
        words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *LETTERS, "Ġ"]
        return RobertaTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[])
    if family == "mpnet":
        words = ["<s>", "<pad>", "</s>", "<unk>", "[UNK]", "<mask>", *LETTERS, *inside]
        return MPNetTokenizer(vocab={word: i for i, word in enumerate(words)})
    kinds = {"bert": BertTokenizer, "electra": ElectraTokenizer, "distilbert": DistilBertTokenizer}
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *inside]
    return kinds[family](vocab={word: i for i, word in enumerate(words)})


def random_texts(rows, seed):
    draw = np.random.default_rng(seed)
    return ["".join(draw.choice(list("abcdef"), draw.integers(1, 12))) for _ in range(rows)]


def by_hand(model, tokenizer, rows, task):
    """Every text read by itself, its embeddings averaged one by one."""
    means, table = [], model.get_input_embeddings().weight.detach().numpy()
    for column in task.columns:
        pieces = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in rows[column]]
        means.append(np.array([table[ids].mean(0) for ids in pieces]))
    if len(means) == 1:
        return means[0]
    return np.hstack([means[0], means[1], abs(means[0] - means[1]), means[0] * means[1]])


def linear(task, metric=None):
    """The linear layer, written out."""
    if task.is_regression:
        layer = RidgeCV(alphas=np.logspace(4, -2, 7))
    else:
        metric = metric or {"matthews": "matthews_corrcoef"}.get(task.metric, task.metric)
        choice = {"C": np.logspace(-4, 0, 5)}
        layer = GridSearchCV(LogisticRegression(max_iter=300), choice, cv=3, scoring=metric)
    return make_pipeline(StandardScaler(), layer)


@pytest.mark.parametrize(
    ("family", "task"),
    [("bert", COLA), *((family, RTE) for family in KINDS), ("mpnet", STSB)],
    ids=lambda each: getattr(each, "name", each),
)
def test_the_bag_is_the_mean_of_each_text(family, task, family_model):
    """Pairs are parted rightly, whatever the tokenizer, and its marks are left out."""
    model, tokenizer = family_model(family), small_tokenizer(family)
    splits = []
    for rows, seed in ((120, 1), (25, 2)):
        data = {name: random_texts(rows, [seed, i]) for i, name in enumerate(task.columns)}
        last = data[task.columns[-1]]
        share = np.array([sum(map(text.count, "abc")) / len(text) for text in last])
        data["label"] = (share if task.is_regression else (share > 0.5).astype(int)).tolist()
        splits.append(data)
    fitted = linear(task)
    fitted.fit(by_hand(model, tokenizer, splits[0], task), np.float32(splits[0]["label"]))
    expected = fitted.predict(by_hand(model, tokenizer, splits[1], task))
    assert len(set(expected)) > 1
    train, dev = (encode(Dataset.from_dict(data), task, tokenizer) for data in splits)
    score = bag_of_embeddings_score(model, train, dev, task)
    assert score.predictions == pytest.approx(expected.tolist(), abs=1e-3)


def test_a_task_scored_by_correlation_chooses_its_strength_by_it(family_model):
    """Accuracy would choose to give the commonest label everywhere."""
    model, tokenizer, splits = family_model("bert"), small_tokenizer("bert"), []
    for rows, seed in ((160, 8), (60, 9)):
        texts = random_texts(rows, seed)
        odds = [0.5 if sum(map(text.count, "abc")) > 0.6 * len(text) else 0.1 for text in texts]
        labels = (np.random.default_rng(seed).random(rows) > odds).astype(int).tolist()
        splits.append({"sentence": texts, "label": labels})
    train, dev = (by_hand(model, tokenizer, data, COLA) for data in splits)
    chosen = [
        linear(COLA, metric).fit(train, splits[0]["label"]).predict(dev).tolist()
        for metric in ("matthews_corrcoef", "accuracy")
    ]
    assert chosen[0] != chosen[1] == [1] * 60
    encoded = [encode(Dataset.from_dict(data), COLA, tokenizer) for data in splits]
    assert list(bag_of_embeddings_score(model, *encoded, COLA).predictions) == chosen[0]


def ordered(rows, tokenizer, backwards=False):
    """A split in which the same letters are right in one order and wrong in the other."""
    draw = np.random.default_rng(rows)
    labels, halves = draw.integers(0, 2, rows), draw.integers(1, 4, rows)
    texts = [("ab" if one else "ba") * half for one, half in zip(labels, halves, strict=True)]
    texts = [text[::-1] if backwards else text for text in texts]
    return encode(Dataset.from_dict({"sentence": texts, "label": labels.tolist()}), COLA, tokenizer)


def test_a_bag_does_not_see_order_and_a_bilstm_does(tiny_model, tiny_tokenizer):
    model = tiny_model()
    train, dev = (ordered(rows, tiny_tokenizer) for rows in (96, 40))
    back = [ordered(rows, tiny_tokenizer, backwards=True) for rows in (96, 40)]
    bag = bag_of_embeddings_score(model, train, dev, COLA)
    assert bag.metrics["matthews"] < 0.4
    assert bag_of_embeddings_score(model, *back, COLA) == bag
    assert bilstm_score(model, train, dev, COLA).metrics["matthews"] > 0.95
    assert bilstm_score(model, train, back[1], COLA).metrics["matthews"] < -0.95


def both(model, train, dev, task):
    """The baselines that read word embeddings alone."""
    return [
        bag_of_embeddings_score(model, train, dev, task),
        bilstm_score(model, train, dev, task),
    ]


def test_only_the_word_embeddings_play_a_part_and_nothing_is_trained(
    tiny_model, encoded, monkeypatch
):
    task, model = find_task("similarity"), tiny_model("similarity")
    train, dev = encoded("similarity", 48, "train"), encoded("similarity", 20)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scores = both(model, train, dev, task)
    with monkeypatch.context() as patch:  # padding plays no part
        patch.setattr("lotterylib.baselines.EVALUATION_BATCH", 1)
        for score, alone in zip(scores, both(model, train, dev, task), strict=True):
            assert score.predictions == pytest.approx(alone.predictions, abs=1e-3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    words = model.get_input_embeddings().weight
    for parameter in model.parameters():
        if parameter is not words:
            parameter.data.fill_(torch.nan)
    assert both(model, train, dev, task) == scores
    words.data = words.data.flip(0)
    for changed, score in zip(both(model, train, dev, task), scores, strict=True):
        assert changed != score


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_an_empty_text_and_a_single_class_are_no_traceback(family, family_model):
    data = {"sentence1": ["a", "", "b", ""], "sentence2": ["", "c", "d", ""], "label": [1] * 4}
    split = encode(Dataset.from_dict(data), RTE, small_tokenizer(family))
    model = family_model(family)
    for score in (*both(model, split, split, RTE), frozen_score(model, split, split, RTE)):
        assert score.examples == 4
    assert score.constant


@pytest.mark.parametrize("labels", [[0, 1, 1, 1], [0, 0, 1, 1], [0, 1] * 3])
def test_as_many_folds_as_the_rarest_class_allows(labels, tiny_model, encoded):
    """A class of a single example leaves nothing to choose by: the middle strength."""
    task = find_task("acceptability")
    train, dev = encoded("acceptability", len(labels)), encoded("acceptability", 12)
    train = dataclasses.replace(train, labels=torch.tensor(labels))
    with warnings.catch_warnings():
        warnings.simplefilter("error", FitFailedWarning)
        score = frozen_score(tiny_model("acceptability"), train, dev, task)
    assert score.examples == 12
