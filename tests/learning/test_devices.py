"""Whether bf16 is faster here: measured once, and kept to."""

import time

import pytest
import torch

from oleander.learning import devices


def test_where_bf16_is_emulated_a_tenth_of_the_turns_tells(monkeypatch):
    calls = []
    monkeypatch.setattr(
        devices.torch,
        "mm",
        lambda left, _: (calls.append(left.dtype), time.sleep(0.005 * (left.dtype == torch.bfloat16))),
    )
    assert devices.bf16_speedup(torch.device("cpu")) < 0.25
    assert calls.count(torch.bfloat16) < 30


@pytest.mark.parametrize(("speedup", "chosen"), [(0.3, "fp32"), (1.1, "fp32"), (2.0, "bf16")])
def test_auto_takes_bf16_where_it_is_measured_to_be_faster_and_keeps_to_it(monkeypatch, tmp_path, speedup, chosen):
    """What was measured counts for every later run, or a busy moment would make two runs differ."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for measured in (speedup, 1.3):
        monkeypatch.setattr(devices, "bf16_speedup", lambda _, measured=measured: measured)
        devices.fastest_precision.cache_clear()
        assert devices.fastest_precision(torch.device("cpu")) == chosen
    devices.fastest_precision.cache_clear()
