"""Benchmarks: speed beside quality and memory, as ratios measured side by side in one run."""
