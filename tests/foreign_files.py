"""What loaders are tried on, and what a refusal is: one line."""

import os

import pytest

from attacks import Attack
from oleander.system.errors import UserError
from tests.learning.test_weights import dataset
from tests.spaces import blend, layout_of, starting_model


def weights(path):
    starting_model(str(path), dataset(), layout_of(10), 0)


def picture(path):
    blend(Attack(), blend_image=str(path), blend_alpha=0.5)


PLACES = {
    "a folder": lambda p: p.mkdir(),
    "a pipe": os.mkfifo,
    "a device": lambda p: p.symlink_to("/dev/zero"),
    "a link to nothing": lambda p: p.symlink_to("nowhere"),
    "a link to itself": lambda p: p.symlink_to(p),
    "nothing": lambda p: None,
    "below a file": lambda p: None,
}


def refused(load, path):
    with pytest.raises(UserError) as error:
        load(path)
    assert str(error.value).strip() and "\n" not in str(error.value)
    return str(error.value)
