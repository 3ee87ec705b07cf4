"""Strategies of a test's own, as files that are found by name."""

import sys

import pytest

import strategies
from oleander.settings import registry
from oleander.settings.declared import forget
from strategies import known_strategies

HEADER = '''"""A strategy of a test's. Nobody 2026, "Nothing"."""
from dataclasses import replace
from typing import Literal
import numpy as np
from oleander.learning.updates import Aggregate, Cohort, Memory
from oleander.settings.ranges import Count, Positive
from strategies.fedavg import fedavg

CALLS = [0]

'''
DOCSTRING = '"""Of a test.\\n\\n    Args:\\n        a_finish_by: By what.\\n    """'


@pytest.fixture
def made(tmp_path):
    """The plug-in ``a_plugin`` (or of the name given) whose signature and body are such a text."""

    names: list[str] = []

    def made(text: str, name: str = "a_plugin"):
        names.append(name)
        line, _, below = text.partition("\n")
        arguments, _, rest = line.partition(" -> ")
        returns, _, code = rest.partition(": ")
        (tmp_path / f"{name}.py").write_text(
            f"{HEADER}def {name}{arguments} -> {returns}:\n    {DOCSTRING}\n    {code}\n\n\n{below}\n"
        )
        strategies.__path__.append(str(tmp_path))
        forget()
        registry.find.cache_clear()
        return known_strategies()[name]

    yield made
    strategies.__path__.remove(str(tmp_path))
    for name in names:
        sys.modules.pop(f"strategies.{name}", None)
    forget()
    registry.find.cache_clear()
