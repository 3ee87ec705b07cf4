"""Scores of a model, each against an independent way of getting the same, and scores remembered from run to run."""

import dataclasses
import gc
import json
import threading
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from oleander.datasets.data import to_pixels
from oleander.datasets.sources import load_dataset
from oleander.experiment.records import _finite
from oleander.learning import evaluation
from oleander.learning.evaluation import Cores, Scores, answers, folded
from oleander.learning.evaluation import evaluate as evaluate_classifier
from oleander.learning.parameters import arrays_of
from oleander.learning.remembered import recall_scores as recall
from oleander.learning.remembered import remember_scores as remember
from oleander.settings.config import Experiment
from oleander.system.cache import cache_dir
from tests.shards import shard
from tests.spaces import attack_of, classifier, fresh_model, layout_of, normalise, scores_key

SETTINGS = Experiment(precision="fp32", malicious=1, attack="patch")


pytestmark = pytest.mark.usefixtures("one_thread")


def evaluate(model, images, labels, trigger, target, precision="fp32", cores=None):
    return evaluate_classifier(
        classifier(model, precision), images, labels, trigger, target, torch.device("cpu"), cores
    )


def test_scores_equal_a_plain_count_without_folding():
    model = fresh_model(10, 3)
    with torch.no_grad():
        for _ in range(3):
            model(normalise(to_pixels(shard(60).images)))
    data = shard(150, client=5)
    trigger = attack_of(SETTINGS).trigger
    scores = evaluate(model, data.images, data.labels, trigger, target=4)
    model.eval()
    with torch.inference_mode():
        logits = model(normalise(to_pixels(data.images)))
        others = data.labels != 4
        fooled = model(normalise(trigger(to_pixels(data.images[others])))).argmax(1).numpy() == 4
    assert scores.mta == float((logits.argmax(1).numpy() == data.labels).mean())
    assert scores.asr == float(fooled.mean())
    assert scores.loss == pytest.approx(float(F.cross_entropy(logits, torch.from_numpy(data.labels))), rel=1e-5)


def test_asr_leaves_out_images_of_the_target_class_and_is_none_without_a_trigger():
    model, data = fresh_model(10, 0), shard(50)
    assert evaluate(model, data.images, data.labels, None, 0).asr is None
    only_target = np.zeros(50, dtype=np.int64)
    assert evaluate(model, data.images, only_target, lambda x: x, 0).asr is None


INF, NAN = float("inf"), float("nan")
NO_ANSWER = [
    [NAN] * 10, [INF] * 10, [-INF] * 10, [0.0] * 10, [7.5] * 10, [0.0, -0.0] * 5, [3e38] * 10, [INF, -INF] * 5,
    [INF] + [0.0] * 9, [1.0] + [-INF] * 9, [NAN] + [1.0] * 9, [2.0, 2.0] + [1.0] * 8, [1.0] * 8 + [2.0, 2.0],
]  # fmt: skip


@pytest.mark.parametrize("row", NO_ANSWER, ids=str)
def test_logits_that_are_no_numbers_or_favour_no_one_class_answer_none(row):
    data = shard(20)
    images, labels = data.images, np.arange(20) % 10
    trigger = attack_of(SETTINGS).trigger
    broken = lambda pixels: torch.tensor([row] * len(pixels))  # noqa: E731
    for target in range(10):
        scores = evaluate_classifier(broken, images, labels, trigger, target, torch.device("cpu"))
        assert (scores.mta, scores.asr) == (0, 0)
        text = json.dumps(_finite(dataclasses.asdict(scores)), allow_nan=False)
        assert json.loads(text)["loss"] in (None, pytest.approx(scores.loss))


def test_rows_are_judged_one_by_one_and_a_class_above_all_others_is_the_answer():
    """Row i favours class i; every second one says nothing."""
    logits = torch.eye(10)
    logits[1::2] = torch.tensor([NO_ANSWER[i] for i in (0, 1, 3, 8, 11)])
    assert answers(logits).tolist() == [0, -1, 2, -1, 4, -1, 6, -1, 8, -1]
    assert answers(torch.tensor([[-3e38, 3e38], [-1e-30, -2e-30], [0.0, -1.0]])).tolist() == [1, 0, 0]
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(500, 10)).astype(np.float32))
    assert torch.equal(answers(logits), logits.argmax(1))


def test_a_model_whose_weights_overflowed_has_no_attack_success():
    model, data = fresh_model(10, 0), shard(20)
    with torch.no_grad():
        model.linear.weight.zero_()
        model.linear.bias.fill_(INF)
    scores = evaluate(model, data.images, data.labels, attack_of(SETTINGS).trigger, target=0)
    assert (scores.mta, scores.asr) == (0, 0)
    with torch.no_grad():
        model.linear.bias.fill_(1.0)
    scores = evaluate(model, data.images, data.labels, attack_of(SETTINGS).trigger, target=0)
    assert (scores.mta, scores.asr) == (0, 0) and scores.loss == pytest.approx(np.log(10))


def test_folding_changes_logits_by_less_than_1e_4_and_bf16_by_little():
    model = fresh_model(10, 3)
    with torch.no_grad():
        for _ in range(3):
            model(normalise(to_pixels(shard(60).images)))
    pixels = to_pixels(shard(100, client=5).images)
    with torch.inference_mode():
        plain = model.eval()(normalise(pixels).contiguous())
        fp32, bf16 = (classifier(model, precision)(pixels) for precision in ("fp32", "bf16"))
    assert float((fp32 - plain).abs().max()) < 1e-4
    assert 0 < float((bf16 - plain).abs().max()) < 0.05 * float(plain.abs().max())
    with pytest.raises(ValueError, match="'fp16'"):
        classifier(model, "fp16")


def test_every_batch_norm_is_folded_and_a_classifier_leaves_no_cycle_that_keeps_its_weights():
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded(fresh_model(10, 0)).modules())
    gc.collect()
    gc.disable()
    try:
        classify = classifier(fresh_model(10, 0), "bf16")
        weights = [
            weakref.ref(cell.cell_contents) for cell in classify.__closure__ if hasattr(cell.cell_contents, "modules")
        ]
        assert len(weights) == 1 and all(ref() is not None for ref in weights)
        del classify
        assert all(ref() is None for ref in weights)
    finally:
        gc.enable()


@pytest.mark.parametrize(("precision", "images", "batch"), [("fp32", 90, 20), ("bf16", 45, 10)])
def test_scores_do_not_depend_on_how_many_cores_there_are(precision, images, batch, monkeypatch):
    monkeypatch.setitem(evaluation.BATCH, "cpu", batch)  # a machine without bf16's instructions is slow in it
    model, data, trigger = fresh_model(10, 3), shard(images), attack_of(SETTINGS).trigger
    one, four = (evaluate(model, data.images, data.labels, trigger, 4, precision, Cores(n)) for n in (1, 4))
    assert one == four


def test_cores_keep_their_threads():
    """New ones for each evaluation made a server grow."""
    cores = Cores(2)
    seen = {thread for _ in range(20) for thread in cores.each(lambda _: threading.get_ident(), range(4))}
    assert len(seen) <= 2 and threading.get_ident() not in seen


def test_evaluation_keeps_to_the_cores_that_others_leave():
    cores, holding, held = Cores(2), threading.Semaphore(0), []

    def hold(_start):
        held.append(1)
        holding.acquire()
        held.pop()

    def work():
        cores.each(hold, range(1))

    cores.busy(1)
    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    wait_until(lambda: len(held) == 1)
    time.sleep(0.1)
    assert len(held) == 1  # the second core is someone else's
    cores.busy(0)
    wait_until(lambda: len(held) == 2)
    for _ in workers:
        holding.release()
    for worker in workers:
        worker.join(10)
    assert not any(worker.is_alive() for worker in workers)
    cores.busy(5)  # more than there are: none is left, and nothing is negative
    late = threading.Thread(target=work)
    late.start()
    time.sleep(0.1)
    assert not held
    cores.busy(0)
    holding.release()
    late.join(10)


def wait_until(condition) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# ---- remembered scores -----------------------------------------------------------------------------------------------


def test_scores_are_remembered_by_the_content_of_all_they_come_from(image_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # other tests' runs remember theirs
    data = load_dataset(f"folder:{image_folder}", "data", print)
    layout = layout_of(3)
    state = layout.flatten(arrays_of(fresh_model(3, 0)))
    trigger, cpu = attack_of(SETTINGS).trigger, torch.device("cpu")
    key = scores_key(state, data, trigger, 0, "fp32", cpu)
    assert key == scores_key(state, data, trigger, 0, "fp32", cpu)
    other_images = replace(data, fingerprint="0" * 64)
    keys = {
        key,
        scores_key(layout.flatten(arrays_of(fresh_model(3, 1))), data, trigger, 0, "fp32", cpu),
        scores_key(replace(state, statistics=state.statistics + 1), data, trigger, 0, "fp32", cpu),
        scores_key(state, other_images, trigger, 0, "fp32", cpu),
        scores_key(state, data, None, 0, "fp32", cpu),
        scores_key(state, data, attack_of(SETTINGS.changed(patch_size=5)).trigger, 0, "fp32", cpu),
        scores_key(state, data, trigger, 1, "fp32", cpu),
        scores_key(state, data, trigger, 0, "bf16", cpu),
    }
    assert len(keys) == 8
    assert recall(key) is None
    remember(key, Scores(0.5, None, 1.25))
    assert recall(key) == Scores(0.5, None, 1.25)


def test_damaged_scores_are_worked_out_again(caplog):
    remember("ab", Scores(0.5, 0.25, 1.25))
    for content in ("", "{", "[]", '{"mta": 1}'):
        (cache_dir() / "scores" / "ab.json").write_text(content)
        assert recall("ab") is None and "working them out again" in caplog.text


def test_evaluation_leaves_the_model_as_it_is():
    model, data = fresh_model(10, 0), shard(50)
    before = arrays_of(model)
    evaluate(model, data.images, data.labels, None, 0)
    assert all(np.array_equal(a, b) for a, b in zip(before, arrays_of(model), strict=True))
