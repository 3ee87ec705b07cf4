"""What a run keeps after a round is believed only if it is, to the last word, what was kept, and fits the rounds on record."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from oleander.experiment.records import RoundRecord, RunFolder
from oleander.experiment.resume import keep, mend, standing_of
from oleander.learning.parameters import Layout, ModelState
from oleander.settings.config import Experiment
from oleander.system.errors import UserError
from strategies.flower import RoundOutcome

LAYOUT = Layout(("w", "s"), ((3,), (2,)), (True, False))
STATE = ModelState(np.array([1, 2, 3], np.float32), np.array([4, 5], np.float32))
START = RoundRecord(0, 0.75, 0.05, 1.0, [], [], [], [], [], [], [], 0, 0, {"evaluate": 1.0})
OUTCOME = RoundOutcome(1, [0, 2], {}, [0.1, 0.2], [1.0, 2.0], [1.0, 1.5], [0.5, 0.5], 3, 64, {"train": 1.0})
ABOUT = {"start": "a fresh model", "dataset_sha256": "ab" * 32, "trigger_sha256": "cd" * 32}


def stopped_after(path, kept: int, on_record: int):
    """A run whose state is of round ``kept`` and of which the rounds 0 … ``on_record`` − 1 were on record when it was kept."""
    folder = RunFolder(path)
    folder.write_settings(Experiment(scenario="mine", rounds=9), {})
    for number in range(on_record):
        folder.append(replace(START, round=number))
    keep(path, kept, STATE, replace(OUTCOME, round=kept) if kept else None, ABOUT)
    folder.release()
    return path


def append(path, number: int) -> None:
    with (path / "rounds.jsonl").open("a") as file:
        file.write(json.dumps(asdict(replace(START, round=number))) + "\n")


@pytest.mark.parametrize("kept", [0, 1, 2, 5])
def test_a_run_goes_on_from_the_round_that_was_kept_whether_it_is_on_record_or_not(tmp_path, kept):
    path = stopped_after(tmp_path / "run", kept, kept)
    found = standing_of(path, LAYOUT)
    assert (found.round, [record.round for record in found.records]) == (kept, list(range(kept)))
    append(path, kept)
    found = standing_of(path, LAYOUT)
    assert (found.round, [record.round for record in found.records]) == (kept, list(range(kept + 1)))


@pytest.mark.parametrize("kept", [0, 1, 2, 5])
def test_one_round_too_many_on_record_is_refused(tmp_path, kept):
    """The next one in order: nothing but its number says that the state is older than the records."""
    path = stopped_after(tmp_path / "run", kept, kept)
    append(path, kept)
    append(path, kept + 1)
    with pytest.raises(UserError, match=f"holds the rounds .*, but state.safetensors is of round {kept};"):
        standing_of(path, LAYOUT)


@pytest.mark.parametrize(("kept", "on_record"), [(1, 0), (2, 1), (5, 3), (1, 3)])
def test_a_state_of_another_round_than_the_records_is_refused(tmp_path, kept, on_record):
    with pytest.raises(UserError, match=f"state.safetensors is of round {kept};"):
        standing_of(stopped_after(tmp_path / "run", kept, on_record), LAYOUT)


def test_a_round_that_is_there_twice_or_out_of_order_is_refused(tmp_path):
    path = stopped_after(tmp_path / "run", 2, 2)
    append(path, 1)
    with pytest.raises(UserError, match=r"holds the rounds \[0, 1, 1\]"):
        standing_of(path, LAYOUT)


def rewritten(path, **changes) -> None:
    """The state with something of its header changed and the tensors as they were."""
    file = path / "state.safetensors"
    with safe_open(file, framework="np") as opened:
        tensors, header = {name: opened.get_tensor(name) for name in opened.keys()}, dict(opened.metadata())  # noqa: SIM118
    save_file(tensors, file, {key: value for key, value in (header | changes).items() if value is not None})


def header_of(path) -> dict[str, str]:
    with safe_open(path / "state.safetensors", framework="np") as opened:
        return dict(opened.metadata())


def test_every_word_of_the_states_header_counts(tmp_path):
    """Also the round, the outcome and what the run started from: changed, each is damage."""
    path = stopped_after(tmp_path / "run", 1, 1)
    header = header_of(path)
    assert {"round", "outcome", "start", "dataset_sha256", "trigger_sha256", "sha256"} <= header.keys()
    outcome = json.loads(header["outcome"]) | {"clamped_variances": 4}
    changes = [{name: value[:-1] + chr(ord(value[-1]) ^ 1)} for name, value in header.items()]
    changes += [
        {"round": "2"},
        {"round": "0"},
        {"outcome": json.dumps(outcome)},
        {"outcome": "null"},
        {"start": "another"},
    ]
    changes += [{name: None} for name in header] + [{"more": "x"}]
    for change in changes:
        stopped = stopped_after(tmp_path / f"run{len(list(tmp_path.iterdir()))}", 1, 1)
        rewritten(stopped, **change)
        with pytest.raises(UserError, match="damaged"):
            standing_of(stopped, LAYOUT)
    rewritten(path)  # with nothing changed it is as good as before
    assert standing_of(path, LAYOUT).outcome == OUTCOME


def test_statistics_and_weights_are_not_taken_for_each_other(tmp_path):
    path = stopped_after(tmp_path / "run", 1, 1)
    found = standing_of(path, LAYOUT).state
    assert found.weights.tolist() == [1, 2, 3] and found.statistics.tolist() == [4, 5]
    with pytest.raises(UserError, match="another model"):
        standing_of(path, Layout(("w", "s"), ((3,), (3,)), (True, False)))
    with pytest.raises(UserError, match="another model"):
        standing_of(path, Layout(("w", "s"), ((2,), (3,)), (True, False)))


def test_records_that_nobody_kept_a_state_for_are_refused_and_half_a_line_is_none(tmp_path):
    path = stopped_after(tmp_path / "run", 1, 1)
    (path / "state.safetensors").unlink()
    with pytest.raises(UserError, match=r"has finished rounds, but state\.safetensors is not there"):
        standing_of(path, LAYOUT)
    (path / "rounds.jsonl").write_text('{"round": 0, "mta"')
    assert standing_of(path, LAYOUT) is None
    mend(path, None)
    assert (path / "rounds.jsonl").read_bytes() == b""


def test_what_was_dropped_and_refused_comes_back_under_the_clients_number(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.write_settings(Experiment(), {})
    folder.append(START)
    outcome = replace(OUTCOME, dropped={1: "it raised", 10: "no reply"})
    keep(folder.path, 1, STATE, outcome, ABOUT)
    folder.release()
    found = standing_of(folder.path, LAYOUT)
    assert found.outcome == outcome and found.trigger_sha256 == "cd" * 32


def test_a_refusal_says_how_to_run_it_again(tmp_path):
    path = stopped_after(tmp_path / "run", 1, 1)
    (path / "rounds.jsonl").unlink()
    with pytest.raises(UserError) as error:
        standing_of(path, LAYOUT)
    assert str(error.value).startswith(
        f"--resume {path}: rounds.jsonl was changed since state.safetensors was written; "
    )
    assert str(error.value).endswith(f"only run again (--scenario {path / 'config.toml'})")
