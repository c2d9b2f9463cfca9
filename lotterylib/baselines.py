"""Baselines: what a score is worth that was reached without fine-tuning the encoder.

The paper's section 4.3 and table 2 hold retrained bad subnetworks against the baselines of Wang et
al. (2018): the majority class, a bag of GloVe vectors (CBOW), and BiLSTMs on GloVe and on ELMo.
Here the bag and the BiLSTM read the encoder's own frozen word embeddings instead, so expect other
scores. The linear layer on the frozen encoder is an addition. The paper's last baseline, a BERT of
random weights, is `loading.load_model` with `pretrained=False`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from transformers import PreTrainedModel

from lotterylib.batches import Encoded, reading_batches, training_batches
from lotterylib.finetuning import Progress, silent
from lotterylib.scoring import (
    EVALUATION_BATCH,
    Score,
    decide,
    example_losses,
    in_order,
    score_predictions,
)
from lotterylib.tasks import Task

_STRENGTHS = np.logspace(-4, 2, 7)

UNITS, EPOCHS, BATCH, LEARNING_RATE = 128, 5, 32, 1e-3
"""Of the BiLSTM: cells in each direction and units of the layer before the logits; passes over the
training split; examples per step; the constant rate of Adam."""


def majority_score(train_labels: np.ndarray, dev_labels: np.ndarray, task: Task) -> Score:
    """The score of always giving the commonest training label (regression: the mean label).

    The authors took the commonest dev label (`frequency_baseline.ipynb`). On tasks whose classes
    are as frequent as each other, such as MNLI, the two may differ.
    """
    if task.is_regression:
        guess = float(np.mean(train_labels))
    else:
        guess = int(np.bincount(train_labels.astype(int)).argmax())
    return score_predictions(np.full(len(dev_labels), guess), dev_labels, task)


def random_guess_score(
    _model: PreTrainedModel, train: Encoded, dev: Encoded, task: Task, _: Progress = silent
) -> Score:
    """The score of random numbers that are distributed like the training labels, for regression.

    The paper gives it for STS-B in place of a majority class, for a constant guess has no
    correlation. The numbers are drawn from the normal distribution with the labels' mean and
    standard deviation; the authors took both from the dev labels (`frequency_baseline.ipynb`).
    """
    labels = train.labels.numpy()
    guesses = np.random.default_rng(0).normal(np.mean(labels), np.std(labels), len(dev))
    return score_predictions(guesses, dev.labels.numpy(), task)


def frozen_score(
    model: PreTrainedModel, train: Encoded, dev: Encoded, task: Task, _: Progress = silent
) -> Score:
    """The score of a linear layer on the frozen pre-trained encoder.

    The layer reads the last hidden state of the first token beside the mean over tokens, both
    standardised. It is fitted to `train`: logistic regression, or ridge for regression. Its
    regularisation is chosen by cross-validation there, for classes by the task's metric, for
    numbers by squared error.
    """
    return _linear_score(lambda split: _hidden_states(model, split), train, dev, task)


def bag_of_embeddings_score(
    model: PreTrainedModel, train: Encoded, dev: Encoded, task: Task, _: Progress = silent
) -> Score:
    """The score of a linear layer on the mean of a text's word embeddings: word order is lost.

    A single text is its mean embedding, [width] numbers. The two texts of a pair are averaged
    apart, to u and v, and combined as in Wang et al. (2018): u, v, `|u - v|` and `u * v` side by
    side, [4 * width] numbers. The linear layer is that of `frozen_score`.
    """
    table = _word_embeddings(model)
    return _linear_score(lambda split: _bags(table, split, task), train, dev, task)


def bilstm_score(
    model: PreTrainedModel,
    train: Encoded,
    dev: Encoded,
    task: Task,
    progress: Progress = silent,
    seed: int = 0,
) -> Score:
    """The score of a one-layer BiLSTM on the encoder's frozen word embeddings.

    The table of embeddings is divided by its standard deviation. The BiLSTM's states are maximised
    over the tokens of each text, to [2 * units] numbers, the texts of a pair are combined as in
    `bag_of_embeddings_score`, and a small network of one hidden layer gives the logits. The score
    is that after the last epoch; no dev score is used to choose one. `seed` is of the weights and
    of the order of examples. PyTorch's global generator is left as it was.
    """
    order = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = _Bilstm(_word_embeddings(model), task).to(model.device)
    texts, labels = _texts(train, task), train.labels.to(model.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    steps = [
        rows
        for _ in range(EPOCHS)
        for rows in training_batches(train.lengths, BATCH, "buckets", order)
    ]
    for step, rows in enumerate(steps, start=1):
        logits = network([texts[row] for row in rows])
        loss = example_losses(logits, labels[rows], task).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress(step / len(steps), f"loss {loss.item():.3f}")
    return score_predictions(_predict(network, dev, task), dev.labels.numpy(), task)


BASELINES: dict[str, Callable[[PreTrainedModel, Encoded, Encoded, Task, Progress], Score]] = {
    "frozen": frozen_score,
    "bag": bag_of_embeddings_score,
    "bilstm": bilstm_score,
    "guess": random_guess_score,
}
"""The baselines that take some computing, by name; "guess" is for regression only."""


class _Bilstm(nn.Module):
    """Texts of tokens to logits [examples, outputs]."""

    def __init__(self, table: torch.Tensor, task: Task) -> None:
        super().__init__()
        # The embeddings of encoders are small numbers, on which an LSTM is slow to start.
        self.words = nn.Embedding.from_pretrained(table / table.std())
        self.lstm = nn.LSTM(table.shape[1], UNITS, batch_first=True, bidirectional=True)
        width = 2 * UNITS * (4 if len(task.columns) == 2 else 1)
        self.classify = nn.Sequential(
            nn.Linear(width, UNITS), nn.ReLU(), nn.Linear(UNITS, task.outputs)
        )

    def forward(self, texts: list[list[list[int]]]) -> torch.Tensor:
        pieces = [torch.tensor(text) for example in texts for text in example]
        padded = pad_sequence(pieces, batch_first=True).to(self.words.weight.device)
        lengths = torch.tensor([len(text) for text in pieces])
        packed = pack_padded_sequence(
            self.words(padded), lengths, batch_first=True, enforce_sorted=False
        )
        states, _ = pad_packed_sequence(
            self.lstm(packed)[0], batch_first=True, padding_value=-torch.inf
        )
        return self.classify(_combine(states.amax(1).unflatten(0, (len(texts), -1))))


@torch.inference_mode()
def _predict(network: _Bilstm, split: Encoded, task: Task) -> np.ndarray:
    texts, batches = _texts(split, task), reading_batches(split.lengths, EVALUATION_BATCH)
    found = [decide(network([texts[row] for row in rows]), task) for rows in batches]
    return in_order(found, batches)


def _linear_score(
    features_of: Callable[[Encoded], np.ndarray], train: Encoded, dev: Encoded, task: Task
) -> Score:
    """Fit a linear layer to features [examples, width] of `train`, and score it on `dev`."""
    features, labels = features_of(train), train.labels.numpy()
    if len(np.unique(labels)) < 2:  # nothing to separate
        return majority_score(labels, dev.labels.numpy(), task)
    if task.is_regression:
        linear = RidgeCV(alphas=1 / _STRENGTHS)
    else:
        choices = {"C": _STRENGTHS[:5]}
        rarest = np.unique(labels, return_counts=True)[1].min()
        linear = LogisticRegression(C=choices["C"][2], max_iter=300)
        # Accuracy would choose the commonest label on an unbalanced task scored by correlation.
        metric = {"matthews": "matthews_corrcoef"}.get(task.metric, task.metric)
        if rarest > 1:  # every fold needs an example of each class
            linear = GridSearchCV(linear, choices, cv=min(3, rarest), scoring=metric)
    fitted = make_pipeline(StandardScaler(), linear).fit(features, labels)
    return score_predictions(fitted.predict(features_of(dev)), dev.labels.numpy(), task)


@torch.inference_mode()
def _hidden_states(model: PreTrainedModel, split: Encoded) -> np.ndarray:
    """Last hidden states of the first token and of the mean token, float32[examples, 2 * width]."""
    model.eval()
    features = torch.empty(len(split), 2 * model.config.hidden_size)
    for rows in reading_batches(split.lengths, EVALUATION_BATCH):
        inputs, _ = split.batch(rows, model.device)
        hidden = model.base_model(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        features[rows] = torch.cat([hidden[:, 0], mean], dim=1).float().cpu()
    return features.numpy()


def _word_embeddings(model: PreTrainedModel) -> torch.Tensor:
    """The encoder's table of word embeddings, float32[vocabulary, width]."""
    return model.get_input_embeddings().weight.detach().float()  # type: ignore[operator,union-attr,return-value]


def _bags(table: torch.Tensor, split: Encoded, task: Task) -> np.ndarray:
    """Mean word embeddings of each text, combined; float32[examples, width or 4 * width]."""
    texts = _texts(split, task)
    # In order of the vocabulary, so that rounding does not tell one order of words from another.
    pieces = [torch.tensor(sorted(text)) for example in texts for text in example]
    lengths = torch.tensor([0, *(len(text) for text in pieces[:-1])])
    flat, starts = torch.cat(pieces).to(table.device), lengths.cumsum(0).to(table.device)
    means = functional.embedding_bag(flat, table, starts, mode="mean")
    return _combine(means.unflatten(0, (len(texts), -1))).cpu().numpy()


def _combine(texts: torch.Tensor) -> torch.Tensor:
    """From [examples, texts, width] to [examples, width], or for pairs [examples, 4 * width]."""
    if texts.shape[1] == 1:
        return texts[:, 0]
    first, second = texts.unbind(1)
    return torch.cat([first, second, (first - second).abs(), first * second], dim=1)


def _texts(split: Encoded, task: Task) -> list[list[list[int]]]:
    """The tokens of each example's one or two texts, without the tokenizer's own marks.

    A pair is parted where the token types change or, where the tokenizer gives none that differ
    (RoBERTa, MPNet), at the first separator. An empty text is one separator.
    """
    tokenizer = split.tokenizer
    names = ("cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id", "pad_token_id")
    marks = {getattr(tokenizer, name) for name in names}
    separator: int = tokenizer.sep_token_id  # type: ignore[assignment]
    texts = []
    for feature in split.features:
        pieces, types = feature["input_ids"], feature.get("token_type_ids", [])
        parts = [pieces]
        if len(task.columns) == 2:
            second = types.index(1) if 1 in types else pieces.index(separator) + 1
            parts = [pieces[:second], pieces[second:]]
        texts.append(
            [[piece for piece in part if piece not in marks] or [separator] for part in parts]
        )
    return texts
