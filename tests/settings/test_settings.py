"""Settings from TOML and flags: precedence, types, ranges; every refusal names the value, the rule and the alternatives."""

import dataclasses
import tomllib
from pathlib import Path

import pytest

from oleander.experiment import prepare as prepare_module
from oleander.experiment.checks import check_counts
from oleander.experiment.prepare import threads_for
from oleander.experiment.records import write_scenario
from oleander.settings.cli import STUDY_TABLES, known_scenarios, load_scenario, parse, parse_command
from oleander.settings.config import SETTINGS, SHARED, Experiment
from oleander.settings.plan import plan_of
from oleander.settings.registry import known
from oleander.system.errors import UserError

ROOT = Path(__file__).parents[2]


def test_flags_go_over_the_scenario_and_the_scenario_over_the_defaults(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('rounds = 9\nseed = 4\nstrategy = "clip"\nclip_norm = 2\nattack = "patch+scaling"\nmalicious = 1\n')
    experiment = parse(["--scenario", str(file), "--seed", "7", "--scale-statistics", "false"])
    assert (experiment.rounds, experiment.seed, experiment.clip_norm) == (9, 7, 2)
    assert (experiment.scenario, experiment.scale_statistics, experiment.lr) == ("mine", False, Experiment().lr)
    assert parse([f"--scenario={file}"]).rounds == 9


def test_a_bare_boolean_flag_means_true_and_takes_one_word_at_most(capsys):
    assert parse(["--no-cache"]).no_cache and parse(["--no-cache", "--seed", "3"]).seed == 3
    assert not parse(["--no-cache", "false"]).no_cache and not parse([]).no_cache
    with pytest.raises(SystemExit) as exit_:
        parse(["--no-cache", "true", "false"])
    assert exit_.value.code == 2 and "no-cache" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("cpus", "a_round", "threads"), [(2, 5, 1), (2, 1, 2), (16, 5, 3), (16, 6, 2), (16, 16, 1), (256, 4, 8)]
)
def test_clients_get_more_threads_only_where_a_round_leaves_cores_idle(monkeypatch, cpus, a_round, threads):
    monkeypatch.setattr(prepare_module, "cpu_count", lambda: cpus)
    monkeypatch.setattr(prepare_module, "gpu_count", lambda: 0)
    for actors in (None, 1, 2):  # they must not change a result
        assert threads_for(Experiment(clients=16, clients_per_round=a_round, actors=actors)) == threads
    monkeypatch.setattr(prepare_module, "gpu_count", lambda: 1)
    assert threads_for(Experiment(clients_per_round=a_round)) == 1


def test_what_auto_chose_is_in_the_settings_that_are_recorded(image_folder):
    settings = Experiment(dataset=f"folder:{image_folder}", samples_per_client=8, clients_per_round=2)
    resolved = prepare_module.prepare(settings, prepare_module.Sources(print)).experiment
    assert resolved.precision in ("fp32", "bf16") and resolved.client_threads >= 1
    named = dataclasses.replace(settings, precision="fp32", client_threads=3)
    again = prepare_module.prepare(named, prepare_module.Sources(print)).experiment
    assert (again.precision, again.client_threads) == ("fp32", 3)


def test_the_six_scenarios_of_the_course():
    assert set(known_scenarios()) >= {"clean", "blend", "krum", "dba", "scaling", "clipping"}
    dba, krum, clipping = (load_scenario(name) for name in ("dba", "krum", "clipping"))
    assert (dba.attack, dba.malicious, dba.clients_per_round, dba.clients) == ("dba", 3, 6, 6)
    assert (krum.attack, krum.strategy, krum.assumed_malicious, krum.clients_per_round) == ("blend", "krum", 1, 5)
    scaling = load_scenario("scaling")
    differing = {name for name in SETTINGS if getattr(scaling, name) != getattr(clipping, name)}
    assert differing == {"scenario", "description", "strategy"} and clipping.strategy == "clip+fedavg"


def test_the_field_sets_each_defence_against_each_attack():
    sweep = tomllib.loads(known_scenarios()["field"].read_text())["sweep"]
    steps = {setting: {step for value in values for step in value.split("+")} for setting, values in sweep.items()}
    assert set(known("attacks")) - steps["attack"] == {"edge_case"}  # it needs a folder of images, and none is shipped
    assert set(known("strategies")) - steps["strategy"] == {"server_lr", "fedavgm", "fedadam"}  # steps, no defences


def test_scenarios_state_only_their_differences():
    for path in known_scenarios().values():
        settings = tomllib.loads(path.read_text())
        defaults = SETTINGS
        assert settings["description"].endswith(".")
        assert all(settings[name] != defaults[name] for name in settings if name not in STUDY_TABLES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("malicius = 1", ["malicius", "malicious"]),
        ("xyzzy = 1", ["xyzzy", "known", "rounds"]),
        ('rounds = "five"', ["rounds = 'five'", "must be a whole number"]),
        ("rounds = 2.5", ["rounds = 2.5"]),
        ("rounds = 0", ["rounds = 0", "greater than or equal to 1"]),
        ("poison_rate = 1.5\nlr = -1.0", ["poison_rate = 1.5", "less than or equal to 1", "lr = -1.0"]),
        ("lr = nan", ["lr = nan", "finite"]),
        ('partition = "iidd"', ["partition = 'iidd'", "main_label", "dirichlet"]),
        ("clip_norm = -1", ["clip_norm = -1", "median", "greater than 0"]),
        ("augment = true", ["augment = True", "once", "round", "epoch"]),
        ("rounds = ", ["not a TOML file"]),
        ("seed = 2026-01-01", ["seed", "must be a whole number"]),
        ("target = -1", ["target = -1 must be greater than or equal to 0"]),
        ("target = true", ["target = True must be a whole number or text"]),
        ('clip_norm = "x"', ["clip_norm = 'x' must be 'median' or a number"]),
        (
            'samples_per_client = "abc"',
            ["samples_per_client = 'abc' must be a number of images (1 or more), or a range"],
        ),
        ("samples_per_client = -3", ["samples_per_client = -3 must be greater than or equal to 1"]),
    ],
)
def test_bad_scenario_files_are_refused(tmp_path, text, words):
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        parse(["--scenario", str(file)])
    assert all(word in str(error.value) for word in [str(file), *words])
    assert "a valid" not in str(error.value) and "must be must" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dbaa", ["dbaa", "did you mean dba"]),
        ("zzz", ["zzz", "blend", "krum"]),
        ("no.toml", ["no.toml", "cannot read"]),
    ],
)
def test_unknown_scenarios_are_refused(name, words):
    with pytest.raises(UserError) as error:
        parse(["--scenario", name])
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    "flags",
    [["--malicios", "3"], ["--rounds", "two"], ["--partition", "x"], ["--scale-statistics", "3"], ["--clip-norm", "m"]],
)
def test_bad_flags_exit_with_2(flags, capsys):
    with pytest.raises(SystemExit) as exit_:
        parse(flags)
    assert exit_.value.code == 2
    printed = capsys.readouterr()
    assert flags[0] in printed.err + printed.out


def test_flag_out_of_range():
    with pytest.raises(UserError, match=r"poison_rate = 2\.0 must be less than or equal to 1"):
        parse(["--poison-rate", "2"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"malicious": 7, "attack": "blend"}, ["--malicious 7", "--clients 6"]),
        ({"clients_per_round": 7}, ["--clients-per-round 7", "--clients 6"]),
        ({"malicious": 1}, ["--malicious 1", "--attack none"]),
        ({"client_cpus": 4096.0}, ["--client-cpus 4096", "CPUs"]),
        ({"actors": 4096}, ["--actors 4096", "CPUs"]),
        ({"actors": 1, "ray_address": "auto"}, ["--actors 1", "--ray-address"]),
    ],
)
def test_impossible_counts_are_refused(settings, words):
    with pytest.raises(UserError) as error:
        check_counts(Experiment(**settings))
    assert all(word in str(error.value) for word in words)


NOBODY = [
    (["--attack", "blend"], ["--attack blend", "--malicious 0", "--scenario clean --attack blend"]),
    (["--attack=dba+scaling", "--seed", "3"], ["--attack dba+scaling", "--scenario clean --attack dba+scaling"]),
    (["--scenario", "dba", "--malicious", "0"], ["--attack dba", "--malicious 0", "--scenario clean"]),
    (["--scenario", "blend", "--malicious=0", "--attack", "patch"], ["--attack patch", "--malicious 0"]),
    (["--scenario", "dba", "--attack-rounds", "0"], ["--attack dba", "--attack-rounds 0", "--scenario clean"]),
    (["--scenario", "pretrain", "--attack", "blend"], ["--attack blend", "--malicious 0"]),
    (["--scenario", "dba", "--malicious", "0", "--repeats", "2"], ["--malicious 0"]),
    (["--scenario", "dba", "--malicious", "0", "--sweep", "strategy=krum,median"], ["--malicious 0"]),
    (["--scenario", "dba", "--sweep", "malicious=0"], ["--malicious 0"]),
    (["--sweep", "attack=blend,dba"], ["--attack blend", "--malicious 0"]),
    (["--sweep", "attack=none,patch"], ["--attack patch", "--malicious 0"]),
    (["--scenario", "why_blend", "--malicious", "0"], ["--malicious 0"]),
]
SOMEBODY = [
    ["--scenario", "clean"], ["--scenario", "clean", "--attack", "patch"], ["--scenario", "clean", "--malicious", "0"],
    ["--scenario", "clean", "--malicious", "2"], ["--attack", "none"], ["--malicious", "0"], [],
    ["--attack", "blend", "--malicious", "1"], ["--scenario", "clean", "--attack", "dba+scaling", "--repeats", "2"],
    ["--scenario", "dba", "--sweep", "malicious=0,1"], ["--attack", "blend", "--sweep", "malicious=0,1"],
    ["--scenario", "dba", "--sweep", "attack_rounds=0,2"], ["--scenario", "clean", "--sweep", "attack=blend,patch"],
    ["--scenario", "fig1_malicious_count", "--attack", "patch"], ["--resume", "runs/x", "--attack", "blend"],
    ["--scenario", "dba", "--attack-rounds", "1"], ["--scenario", "scaling", "--attack", "none", "--malicious", "0"],
]  # fmt: skip


@pytest.mark.parametrize(("flags", "words"), NOBODY, ids=lambda x: " ".join(x))
def test_an_attack_that_nobody_carries_out_is_refused(flags, words):
    with pytest.raises(UserError) as error:
        plan_of(parse_command(flags))
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)


@pytest.mark.parametrize("flags", SOMEBODY, ids=" ".join)
def test_a_trigger_may_be_measured_where_a_scenario_asks_for_it_and_a_sweep_may_begin_at_0(flags):
    plan_of(parse_command(flags))


def test_a_file_may_have_an_attack_and_nobody_to_carry_it_out(tmp_path):
    """As the config.toml of a run of ``clean`` has; whoever runs it is told."""
    file = tmp_path / "config.toml"
    write_scenario(file, load_scenario("clean"))
    for flags in ([], ["--seed", "4"], ["--attack", "patch"], ["--malicious", "0"]):
        assert parse(["--scenario", str(file), *flags]).idle
    mine = tmp_path / "mine.toml"
    mine.write_text('attack = "dba"\n[[point]]\nlabel = "a"\nmalicious = 0\n')
    assert plan_of(parse_command(["--scenario", str(mine), "--attack", "patch"])).experiments()[0].idle


def test_nobody_attacks_in_silence(image_folder):
    told = []
    settings = Experiment(dataset=f"folder:{image_folder}", samples_per_client=8, clients_per_round=2)
    for changes in ({}, {"attack": "patch", "malicious": 1}, {"attack": "patch"}):
        prepare_module.prepare(dataclasses.replace(settings, **changes), prepare_module.Sources(told.append))
        assert any("Nobody attacks" in text for text in told) == (changes == {"attack": "patch"})


def test_every_setting_says_what_it_is_in_its_help(capsys):
    with pytest.raises(SystemExit) as exit_:
        parse(["--help"])
    assert exit_.value.code == 0
    printed = capsys.readouterr().out
    for name in SHARED:
        assert f"--{name.replace('_', '-')} " in printed


def test_settings_survive_json():
    experiment = Experiment.of({"clip_norm": 2.5, "strategy": "clip", "gamma": None, "attack": "dba+scaling"})
    assert Experiment.from_json(experiment.to_json()) == experiment


def test_attackers_leave_after_their_rounds():
    experiment = Experiment(malicious=2, attack="blend", attack_rounds=3)
    assert [set(experiment.attackers_in(r)) for r in (1, 3, 4, 9)] == [{0, 1}, {0, 1}, set(), set()]
    assert len(Experiment(malicious=2).attackers_in(10**6)) == 2
