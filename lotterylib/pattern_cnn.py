"""The paper's classifier of attention maps: a small convolutional network (section 5.2).

After the authors' `classify_attention_patterns.py`: six 3x3 convolutions with ReLU of 16, 16, 32,
32, 64 and 64 channels, maxima of 2x2 cells between the pairs, a 1x1 convolution to 16 channels, the
average over the map, a 1x1 convolution to the classes. The authors pad training maps to the largest
one and crop at inference. Here the brightness of every map is reduced to 16x16 cells, each the
maximum of its part of the map, which keeps thin lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

from lotterylib.errors import LotteryError
from lotterylib.finetuning import Progress, silent
from lotterylib.patterns import PATTERNS, brightness

GENERATED_MAPS = 4000
"""How many generated maps to train on by default."""

EPOCHS = 20
"""The authors take 200 over a few hundred maps. Here more only fits the generator better."""

SIDE = 16
_BATCH, _LEARNING_RATE, _HELD_OUT = 64, 1e-3, 0.2


class PatternCNN(nn.Module):
    """The network: float[maps, 1, height, width] of brightness to logits, float[maps, patterns].

    Attributes:
        validation_accuracy: on the maps held out when it was trained, from 0 to 1; nan before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.validation_accuracy = float("nan")
        parts: list[nn.Module] = []
        channels = 1
        for wider in (16, 32, 64):
            if channels > 1:
                parts.append(nn.MaxPool2d(2))
            for _ in range(2):
                parts += [nn.Conv2d(channels, wider, 3, padding=1), nn.ReLU()]
                channels = wider
        parts += [nn.Conv2d(channels, 16, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
        self.layers = nn.Sequential(*parts, nn.Conv2d(16, len(PATTERNS), 1), nn.Flatten())
        for part in self.layers:
            if isinstance(part, nn.Conv2d):
                assert part.bias is not None
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Logits of reduced maps."""
        return self.layers(maps)


def train_cnn(
    maps: Sequence[np.ndarray],
    codes: np.ndarray,
    seed: int,
    epochs: int = EPOCHS,
    progress: Progress = silent,
) -> PatternCNN:
    """Train on four fifths of the maps and keep the epoch with the best accuracy on the others.

    Adam at 1e-3 on batches of 64. Half a minute on one slow core for `GENERATED_MAPS`.

    Args:
        maps: raw or norm-weighted, each float[n, n] without padding.
        codes: int64[maps], places in `PATTERNS`.
        seed: of weights, split and order; PyTorch's global generator is left as it was.

    Returns:
        The network of the best epoch (the first of equals), on the CPU, in evaluation mode.

    Raises:
        LotteryError: so few maps of a pattern that a fifth of them is none.
    """
    pictures, labels = _reduced(maps), torch.from_numpy(codes)
    rows = np.arange(len(codes))
    try:
        rows, held_out = train_test_split(
            rows, test_size=_HELD_OUT, stratify=codes, random_state=seed
        )
    except ValueError as error:
        raise LotteryError(f"Too few maps to hold out a fifth of each pattern: {error}") from error
    order = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PatternCNN()
    optimizer = torch.optim.Adam(model.parameters(), lr=_LEARNING_RATE)
    best, kept = -1.0, {}
    for epoch in range(1, epochs + 1):
        model.train()
        shuffled = order.permutation(rows)
        for start in range(0, len(rows), _BATCH):
            batch = torch.from_numpy(shuffled[start : start + _BATCH])
            loss = functional.cross_entropy(model(pictures[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        accuracy = float((_decide(model, pictures[held_out]) == codes[held_out]).mean())
        if accuracy > best:
            best, kept = accuracy, {name: x.clone() for name, x in model.state_dict().items()}
        progress(epoch / epochs, f"accuracy on held-out maps {accuracy:.3f}")
    model.load_state_dict(kept)
    model.validation_accuracy = best
    return model.eval()


def classify_by_cnn(model: PatternCNN, maps: Sequence[np.ndarray]) -> np.ndarray:
    """The pattern of each map, float[n, n] without padding: codes in `PATTERNS`, int64[maps]."""
    return _decide(model, _reduced(maps))


def save_cnn(model: PatternCNN, path: Path) -> None:
    """Write a network as safetensors, with its validation accuracy."""
    accuracy = {"validation_accuracy": repr(model.validation_accuracy)}
    save_file(model.state_dict(), path, metadata=accuracy)


def load_cnn(path: Path) -> PatternCNN:
    """Read what `save_cnn` wrote; a `LotteryError` if it cannot be read."""
    model = PatternCNN()
    try:
        model.load_state_dict(load_file(path))
        with safe_open(path, "pt") as file:
            model.validation_accuracy = float((file.metadata() or {})["validation_accuracy"])
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise LotteryError(f"{path} is not a readable classifier of maps: {error}.") from None
    return model.eval()


def _reduced(maps: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.stack(
        [
            functional.adaptive_max_pool2d(torch.from_numpy(brightness(each))[None], SIDE)
            for each in maps
        ]
    )


@torch.no_grad()
def _decide(model: PatternCNN, pictures: torch.Tensor) -> np.ndarray:
    model.eval()
    return torch.cat([model(part).argmax(1) for part in pictures.split(256)]).numpy()
