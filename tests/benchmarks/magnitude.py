"""Magnitude thresholds against torch's own global pruning, each in a process of its own."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.nn.utils import prune

from lotterylib.encoder import layers_of, prunable_weights
from lotterylib.magnitude import pruned_counts, rank
from tests.benchmarks.harness import Row, seconds
from tests.benchmarks.workload import bert

THRESHOLDS = 10


def thresholds(quick: bool) -> Iterator[Row]:
    """Ten thresholds over the 85 million weights of a BERT-base, masks only."""
    rounds = [[_apart(who, quick) for who in ("ours", "peer")] for _ in range(1 if quick else 2)]
    ratios = [peer["seconds"] / ours["seconds"] for ours, peer in rounds]
    ours, peer = rounds[-1]
    share = ours["megabytes"] / peer["megabytes"]
    yield Row(
        f"{THRESHOLDS} magnitude thresholds over {ours['weights'] / 1e6:.0f} million weights",
        "prune.global_unstructured, again and again",
        ours["seconds"],
        peer["seconds"],
        sorted(ratios)[len(ratios) // 2],
        min(ratios),
        max(ratios),
        8,
        f"extra memory at the peak: {ours['megabytes']:.0f} MB, which is {share:.3f} of the peer's",
    )


def _apart(who: str, quick: bool) -> dict[str, float]:
    """Time and memory in a fresh process: what one way leaves behind must not help the other."""
    command = [sys.executable, "-m", "tests.benchmarks.magnitude", who, str(int(quick))]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _peak() -> float:
    """Megabytes of this process at its peak."""
    status = Path("/proc/self/status")
    if status.is_file():  # elsewhere a process may begin with the peak of the one that started it
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _ours(model: torch.nn.Module) -> None:
    weights = {name: value.detach().numpy() for name, value in prunable_weights(model).items()}  # type: ignore[arg-type]
    ranking = rank(weights)
    for pruned in list(pruned_counts(ranking.size, 0.1, THRESHOLDS))[1:]:
        ranking.smallest_pruned(pruned)


def _peer(model: torch.nn.Module) -> None:
    parts = [
        (getattr(layer, module), kind)
        for layer in layers_of(model)  # type: ignore[arg-type]
        for module in ("query", "key", "value", "output", "mlp_in", "mlp_out")
        for kind in ("weight", "bias")
        if (module, kind) != ("mlp_out", "bias")
    ]
    for _ in range(THRESHOLDS):
        prune.global_unstructured(parts, pruning_method=prune.L1Unstructured, amount=0.1)


if __name__ == "__main__":
    model = bert(hidden=96 if sys.argv[2] == "1" else 768)
    before = _peak()
    spent = seconds(lambda: {"ours": _ours, "peer": _peer}[sys.argv[1]](model))
    size = sum(value.numel() for value in prunable_weights(model).values())
    found = {"seconds": spent, "megabytes": max(_peak() - before, 1.0), "weights": size}
    print(json.dumps(found))
