"""Benchmarks: ours against a peer in one interleaved run. `python -m tests.benchmarks --help`."""
