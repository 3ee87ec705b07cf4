"""Digits are scikit-learn's, enlarged in whole numbers to what Pillow's bilinear filter makes of them."""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from oleander.datasets.digits import CLASSES, SPACE, digits, enlarged
from oleander.datasets.sources import load_dataset
from oleander.learning.weights import layout_of, starting_model


def test_every_digit_is_there_once_and_fifty_of_each_are_for_testing(tmp_path):
    made = digits(tmp_path)
    assert made.train_images.shape == (1297, 1, 16, 16) and made.test_images.shape == (500, 1, 16, 16)
    assert np.bincount(made.test_labels).tolist() == [50] * len(CLASSES)
    counts, labels = load_digits(return_X_y=True)
    whole = enlarged(counts.reshape(-1, 8, 8).astype(np.int64))
    theirs = sorted((image.tobytes(), label) for image, label in zip(whole, labels, strict=True))
    images = np.concatenate([made.train_images, made.test_images])[:, 0]
    ours = zip(images, np.concatenate([made.train_labels, made.test_labels]), strict=True)
    assert sorted((image.tobytes(), label) for image, label in ours) == theirs


def test_they_are_enlarged_as_torchs_bilinear_filter_does_it():
    counts = np.random.default_rng(0).integers(0, 17, (20, 8, 8))
    exact = F.interpolate(torch.from_numpy(counts)[:, None].double(), scale_factor=2, mode="bilinear")[:, 0] * 255 / 16
    assert np.array_equal(enlarged(counts), torch.floor(exact + 0.5).to(torch.uint8).numpy())


def test_mean_and_deviation_are_the_training_images_own(tmp_path):
    pixels = digits(tmp_path).train_images / 255
    assert abs(pixels.mean() - SPACE.mean[0]) < 5e-5 and abs(pixels.std() - SPACE.std[0]) < 5e-5


def test_the_cnn_starts_from_the_shipped_checkpoint(tmp_path):
    dataset = load_dataset("digits", str(tmp_path), print)
    start = starting_model("cnn", "auto", dataset, layout_of("cnn", 10, dataset.image), 0)
    assert start.origin == "the shipped checkpoint digits"
