"""A ratio is the peer's time over ours for the same amount of work."""

from tests.benchmarks import harness
from tests.benchmarks.workload import examples, padded


def test_ratios_are_medians_over_rounds_for_equal_work(monkeypatch):
    # warm-up is not timed; then ours and the peer in turns
    clock = iter([0, 2, 10, 16, 20, 24, 30, 48, 50, 52, 60, 64])
    monkeypatch.setattr(harness.time, "perf_counter", lambda: next(clock))
    calls = []
    row = harness.compare(
        "work", "peer", lambda: calls.append("ours"), lambda: calls.append("peer"), work=2.0
    )
    assert calls == ["ours", "ours", "peer", "ours", "peer", "ours", "peer"]
    # ours did twice the peer's work in 2, 4 and 2 seconds, the peer took 6, 18 and 4
    assert (row.ours_s, row.peer_s) == (1, 6)
    assert (row.ratio, row.low, row.high) == (6, 4, 9)


def test_the_workload_has_the_lengths_of_its_task(minilm):
    split = examples("cola", "train", 50)
    rows = padded(split)
    assert max(split.lengths) < 128
    for row, length in zip(rows, split.lengths, strict=True):
        assert len(row["input_ids"]) == len(row["attention_mask"]) == 128
        assert sum(row["attention_mask"]) == length
