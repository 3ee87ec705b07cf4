"""The toy dataset: ten classes of small drawn pictures under CIFAR-10's names, made from code alone (``toy_drawing.py``).

For runs and tests where CIFAR-10 cannot be had. It takes CIFAR-10's place, and is normalised as that is.
"""

import os
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from oleander.datasets.cifar10 import CIFAR10
from oleander.datasets.data import Images
from oleander.datasets.toy_drawing import CLASSES, SIZE, VERSION
from oleander.system.errors import UserError
from oleander.system.machine import cpu_count
from oleander.system.programs import module_path, python

TOY = replace(CIFAR10, side=SIZE)


def cache_key(_data_dir: Path) -> str:
    """Of what draws it."""
    return f"{VERSION:016d}"


def toy(data_dir: Path) -> Images:
    """Drawn from code, to show how things work.

    Args:
        data_dir: no file of it is read.

    Raises:
        UserError: the process that draws it failed.
    """
    # in a process of its own: its workers import the module that started them, and ours imports torch
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "toy.npz"
        command = python("-m", "oleander.datasets.toy_drawing", str(file), str(min(cpu_count(), 8)))
        env = os.environ | {"PYTHONPATH": module_path()}
        drawn = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if drawn.returncode:
            raise UserError(f"--dataset toy: drawing it failed: {drawn.stderr.strip()[-300:]}")
        with np.load(file) as arrays:
            return Images(arrays["a"], arrays["b"], arrays["c"], arrays["d"], CLASSES, TOY)
