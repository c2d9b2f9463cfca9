"""Where the time goes at each stage: shares of PyTorch's operators, as JSON.

python -m tests.benchmarks.profile --json book/profile.json
"""

import argparse
import json
import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from lotterylib.attention import maps_of
from lotterylib.encoder import shape_of
from lotterylib.fast.cpu import keep_freed_memory
from lotterylib.finetuning import Recipe, train
from lotterylib.gates import remove
from lotterylib.importance import measure
from lotterylib.scoring import evaluate
from lotterylib.subnetworks import StructuredSubnetwork, full_subnetwork
from lotterylib.tasks import find_task
from tests.benchmarks.workload import bert, examples

TASK = find_task("sst2")

KINDS = {
    "products": ("mkldnn", "_linear_pointwise", "addmm", "aten::mm", "onednn"),
    "attention": ("scaled_dot_product", "flash_attention", "bmm", "baddbmm", "softmax"),
    "dropout": ("bernoulli", "dropout"),
    "activation and norms": ("gelu", "layer_norm", "tanh"),
    "optimizer": ("adam", "foreach", "linalg_vector_norm", "clip"),
    "copies and layout": ("copy_", "clone", "contiguous", "index", "cat", "fill_", "zero_"),
    "additions and sums": ("aten::add", "aten::mul", "aten::div", "aten::sum"),
}


def main() -> None:
    """The command `python -m tests.benchmarks.profile`."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.profile", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny amounts, to see that it works")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("profile.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    stages = [_profile(name, work) for name, work in _stages(options.quick).items()]
    found = {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
        "threads": options.threads,
        "torch": torch.__version__,
        "stages": stages,
    }
    options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for stage in stages:
        shares = ", ".join(f"{kind} {share:.0%}" for kind, share in stage["shares"].items())
        print(f"{stage['stage']}: {stage['seconds']:.2f} s; {shares}")


def _stages(quick: bool) -> dict[str, Callable[[], object]]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    hidden, layers, rows = (96, 2, 64) if quick else (384, 6, 512)
    model = bert(hidden, layers).to(device)  # type: ignore[arg-type]
    split, dev = examples("sst2", "train", rows), examples("sst2", "validation", max(32, rows // 4))
    shape = shape_of(model)
    heads = np.zeros((shape.layers, shape.heads), dtype=bool)
    heads[:, ::2] = True
    half = StructuredSubnetwork(heads, np.arange(shape.layers) % 2 == 0)
    removed = remove(bert(hidden, layers), half).to(device)  # type: ignore[arg-type]
    full = full_subnetwork(shape)
    recipes = {order: Recipe(1e-5, epochs=1, order=order) for order in ("buckets", "random")}  # type: ignore[arg-type]
    return {
        "fine-tuning, buckets": lambda: train(model, split, TASK, recipes["buckets"], 0),
        "fine-tuning, random": lambda: train(model, split, TASK, recipes["random"], 0),
        "retraining half": lambda: train(removed, split, TASK, recipes["buckets"], 0),
        "a state of the structured search": lambda: measure(model, dev, TASK, full),
        "a score": lambda: evaluate(model, dev, TASK),
        "norm-weighted maps": lambda: maps_of(model, dev, range(32), norm_weighted=True),
    }


def _profile(name: str, work: Callable[[], object]) -> dict:
    work()
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as found:
        work()
    times: dict[str, float] = {}
    for row in found.key_averages():
        kind = next((k for k, parts in KINDS.items() if any(p in row.key for p in parts)), "rest")
        times[kind] = times.get(kind, 0.0) + row.self_cpu_time_total + row.self_device_time_total
    total = sum(times.values())
    shares = {kind: time / total for kind, time in sorted(times.items(), key=lambda each: -each[1])}
    return {"stage": name, "seconds": total / 1e6, "shares": shares}


if __name__ == "__main__":
    main()
