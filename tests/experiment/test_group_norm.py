"""A model with group norm has no statistics: whole runs in this process, what they keep, what starts them, and their keys."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from oleander.experiment.federation import client_config, federate
from oleander.experiment.prepare import Sources, prepare
from oleander.experiment.records import RunFolder, read_rounds
from oleander.experiment.resume import keep, standing_of
from oleander.experiment.study import run_key
from oleander.learning.weights import CHECKPOINTS, layout_of, save_model, shipped_checkpoint, starting_model
from oleander.settings.config import Experiment
from oleander.system.errors import RunError, UserError
from oleander.transport.roster import SimulatedRoster
from strategies.flower import PipelineStrategy
from tests.played_network import Quiet, changed
from tests.spaces import GREY16
from tests.test_spaces import Here, Listener, prepared

pytestmark = pytest.mark.usefixtures("task")
GROUP = {"model": "cnn", "norm": "group", "batch_size": 4, "local_epochs": 1}


@pytest.mark.parametrize(
    ("attack", "strategy", "repair"),
    [
        ("blend+scaling", "clip+flame+server_lr", "none"),
        ("dba+pgd", "fltrust", "finetune"),
        ("neurotoxin+blend", "nnm+median+noise", "none"),
        ("patch", "foolsgold+fedadam", "none"),
        ("patch+constrain", "bucketing+median", "none"),
    ],
)
def test_a_run_goes_through_and_sends_no_statistics(attack, strategy, repair, image_folder, tmp_path):
    flags = {"attack": attack, "strategy": strategy, "repair": repair, "root_samples": 8}
    setup = prepared(GREY16, image_folder, **GROUP | flags)
    folder = RunFolder(tmp_path / "run")
    summary = federate(Here(3), setup, folder, Listener())
    folder.release()
    records = read_rounds(folder.path)
    assert [r.round for r in records] == [0, 1, 2] and min(records[-1].norms_before) > 0 and summary.asr is not None
    model = load_file(folder.path / "model.safetensors")
    assert (
        not [name for name in model if "running" in name]
        and sum(a.size for a in model.values()) == setup.layout.weight_count
    )
    assert setup.layout.statistic_count == 0 and setup.start.state.statistics.shape == (0,)


def test_stopped_after_a_round_it_goes_on_to_the_same_bits(image_folder, tmp_path):
    setup = prepared(GREY16, image_folder, **GROUP, attack="blend", strategy="fedadam")
    straight, folder = rounds(setup, 2), RunFolder(tmp_path / "run")
    folder.write_settings(setup.experiment, {})
    half = rounds(setup, 1)
    about = {"start": "s", "dataset_sha256": "d", "trigger_sha256": "t"}
    keep(folder.path, 0, setup.start.state, None, about)
    keep(folder.path, 0, half.state, None, about, half.memory)
    standing = standing_of(folder.path, setup.layout)
    folder.release()
    assert standing.state.statistics.shape == (0,)
    gone_on = rounds(setup, 2, done=1, state=standing.state, memory=standing.memory)
    np.testing.assert_array_equal(gone_on.state.weights, straight.state.weights)
    assert not np.array_equal(gone_on.state.weights, half.state.weights)


def rounds(setup, count, done=0, state=None, memory=None, network=None):
    """The strategy after so many rounds."""
    e = setup.experiment
    strategy = PipelineStrategy(
        e, setup.pipeline, setup.layout, state or setup.start.state, setup.shard_sizes, client_config(setup), Quiet(),
        SimulatedRoster(e), done, memory=memory,
    )  # fmt: skip
    strategy.start(network or Here(3), strategy.initial_arrays(), num_rounds=count - done, timeout=60.0)
    return strategy


def test_a_reply_that_claims_statistics_is_a_bad_one(image_folder):
    setup = prepared(GREY16, image_folder, **GROUP, attack="none", malicious=0)

    class Lying(Here):
        def _train(self, message, client):
            reply = super()._train(message, client)
            if client == 1:
                arrays = [*reply.content["arrays"].to_numpy_ndarrays()[:1], np.ones(3, np.float32)]
                metrics = dict(reply.content["metrics"])
                return changed()(message, {"arrays": arrays, **metrics})
            return reply

    with pytest.raises(RunError, match=r"client 1.*statistics have shape \(3,\), not \(0,\)"):
        rounds(setup, 1, network=Lying(3))


def test_no_shipped_checkpoint_fits_it_and_a_notice_says_so(tmp_path):
    said = []
    setup = prepare(
        Experiment(dataset="digits", model="cnn", norm="group", samples_per_client=10), Sources(said.append)
    )
    assert any("no checkpoint is shipped for cnn with group norm on digits" in text for text in said)
    assert setup.start.for_want
    assert shipped_checkpoint("cnn", setup.dataset) and not shipped_checkpoint("cnn", setup.dataset, "group")
    file = str(CHECKPOINTS / "digits.safetensors")
    with pytest.raises(UserError, match=r"not a cnn with group norm of this dataset: unexpected bn"):
        starting_model("cnn", file, setup.dataset, setup.layout, 0, "group")
    saved = tmp_path / "group.safetensors"
    save_model(saved, setup.layout, setup.start.state)
    again = starting_model("cnn", str(saved), setup.dataset, setup.layout, 0, "group").state
    np.testing.assert_array_equal(again.weights, setup.start.state.weights)
    with pytest.raises(UserError, match=r"not a cnn of this dataset: missing bn1\.running_mean"):
        starting_model("cnn", str(saved), setup.dataset, layout_of("cnn", 10, setup.dataset.image), 0)


def test_it_is_another_run_and_batch_norm_is_the_run_that_it_always_was(image_folder):
    batch, group = (prepared(GREY16, image_folder, **GROUP | {"norm": norm}) for norm in ("batch", "group"))
    assert run_key(batch) != run_key(group)
    same = replace(batch, experiment=replace(batch.experiment, norm="group"))
    assert run_key(same) != run_key(batch)  # by the setting itself, too
    assert "norm" not in run_key.__globals__["NOT_IN_KEY"] and "norm" in run_key.__globals__["NOT_IN_OLD_KEYS"]
