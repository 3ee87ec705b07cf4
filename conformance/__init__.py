"""Conformance vectors: what aggregation rules give on tiny cohorts, by their papers, and a runner that tries anybody's rules.

``cohorts.py`` and ``exact.py`` make ``vectors/`` (``python -m conformance.make``); ``runner.py`` tries a function on them, in any
environment with NumPy; ``ours.py`` and ``adapters/`` are such functions; ``peers.py`` runs the adapters, each project in an
environment of its own, and writes docs/conformance.md. README.md says how to use the vectors elsewhere.
"""
