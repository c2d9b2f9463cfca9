"""An experiment so small that a test can compute all of it, and subnetworks of its encoder."""

import numpy as np

from lotterylib.encoder import prunable_weights
from lotterylib.magnitude import rank
from lotterylib.runs.experiment import open_experiment
from lotterylib.runs.jobs import key_of, pieces_of
from lotterylib.runs.methods import ALL_METHODS
from lotterylib.runs.run import compute_pieces
from lotterylib.runs.searches import find_good
from lotterylib.runs.settings import parse_settings
from lotterylib.subnetworks import StructuredSubnetwork, WeightSubnetwork, random_like


def small_experiment(root, **changes):
    """An experiment on few rows with the tiny encoder, whose magnitude search is short."""
    values = {
        "task": "acceptability",
        "encoder": "tiny",
        "budget": "smoke",
        "seeds": [3],
        "train_rows": 16,
        "dev_rows": 16,
        "epochs": 1,
        "store": str(root),
    }
    made = open_experiment(parse_settings(**(values | changes)))
    made.settings = made.settings.but(magnitude_max_steps=8)
    return made


def half_of_the_weights(model):
    """A random half of a model's weights."""
    ranking = rank({name: p.detach().numpy() for name, p in prunable_weights(model).items()})
    return random_like(ranking.smallest_pruned(ranking.size // 2), seed=1)


def some_structure():
    """A tiny model without a head, a layer's heads and an MLP."""
    heads = np.ones((3, 4), dtype=bool)
    heads[0, 2] = heads[1, :] = False
    return StructuredSubnetwork(heads, np.array([True, False, True]))


def half_of(made, seed, name, report, number=0):
    """What a search might have found: `searches.find_good` without searching."""
    if ALL_METHODS[name].way == "agreement":
        return find_good(made, seed, name, report)
    draw = np.random.default_rng([seed, len(name)])
    if not ALL_METHODS[name].is_structured:
        weights = prunable_weights(made.pretrained(seed)).items()
        return [], WeightSubnetwork({n: draw.random(tuple(p.shape)) < 0.6 for n, p in weights})
    heads, mlps = np.arange(12).reshape(3, 4) < 7, np.arange(3) < 2
    if "heads" not in ALL_METHODS[name].prunes:
        heads[:] = True
    if "mlps" not in ALL_METHODS[name].prunes:
        mlps[:] = True
    heads = draw.permuted(heads.ravel()).reshape(3, 4)
    return [], StructuredSubnetwork(heads, draw.permutation(mlps))


def is_done(made, job):
    """Whether the store has what a job computes."""
    return made.store.has(key_of(made, job))


def compute_all(plan, jobs=1):
    """Compute what the store lacks of a plan, and return what failed."""
    return compute_pieces(pieces_of(plan), jobs)
