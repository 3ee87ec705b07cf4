"""Measurements, as ratios within one run; not part of the test suite."""
