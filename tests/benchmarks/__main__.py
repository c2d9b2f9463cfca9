"""Run benchmarks, print each comparison as it is made, and write them all as JSON."""

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path

import torch
import transformers

from lotterylib.fast.cpu import keep_freed_memory
from tests.benchmarks import magnitude, measuring, removal, training

GROUPS = {
    "fine-tuning": training.fine_tuning,
    "importance": measuring.importance,
    "search": measuring.search,
    "magnitude": magnitude.thresholds,
    "retraining": training.retraining,
    "norms": measuring.norm_weighted,
    "removal": removal.removal,
}


def main() -> None:
    """The command `python -m tests.benchmarks`."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(GROUPS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="tiny amounts, to see that it works")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"))
    options = parser.parse_args()
    if unknown := [name for name in options.groups if name not in GROUPS]:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(GROUPS)}")
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # for the peers too
    rows = []
    for name in options.groups or GROUPS:
        for row in GROUPS[name](options.quick):
            rows.append({"group": name, **asdict(row)})
            short = f", short of {row.at_least:g}" if row.ratio < row.at_least else ""
            print(
                f"{row.what}: {row.ratio:.2f} x {row.peer} "
                f"({row.low:.2f} to {row.high:.2f}{short}); {row.ours_s:.3g} s, {row.peer_s:.3g} s"
                + (f"; {row.note}" if row.note else ""),
                flush=True,
            )
    found = {
        "threads": options.threads,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "quick": options.quick,
        "rows": rows,
    }
    options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"Written to {options.json}", file=sys.stderr)


if __name__ == "__main__":
    main()
