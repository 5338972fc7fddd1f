"""Benchmark scripts: ratios against a yardstick in the same run, never a timed test."""
