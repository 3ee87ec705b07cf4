"""Settings that plug-ins declare in their own files: who uses them, who is told that nobody does, and what records keep of them."""

import ast

import pytest

from oleander.settings.cli import load_scenario, load_scenario_file, parse, parse_command
from oleander.settings.config import SETTINGS, SHARED, Experiment
from oleander.settings.declared import PACKAGES, _type, declaration, declared, in_use, names_in, users_of
from oleander.settings.help import GROUPS
from oleander.settings.plan import plan_of
from oleander.settings.ranges import Count
from oleander.system.errors import UserError


def test_what_a_file_declares_is_what_its_function_takes():
    import importlib
    import inspect

    for package in PACKAGES:
        for name in names_in(package):
            parameters = inspect.signature(
                getattr(importlib.import_module(f"{package}.{name}"), name)
            ).parameters.values()
            keywords = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
            told = declaration(package, name)
            assert {s.name: s.default for s in told.settings} == {
                k: d for k, d in keywords.items() if d is not inspect.Parameter.empty
            }
            assert set(told.asks) == {k for k, d in keywords.items() if d is inspect.Parameter.empty}
            assert told.summary and all(setting.help for setting in told.settings), name


@pytest.mark.parametrize(
    "text", ["int", "dict[str, int]", "list[Count]", "Literal[open('x')]", "__import__('os')", "Count & Rate"]
)
def test_a_type_that_is_no_settings_is_a_programming_error_and_runs_nothing(text):
    with pytest.raises((ValueError, KeyError)):
        _type(ast.parse(text, mode="eval").body)
    assert _type(ast.parse("Count | None", mode="eval").body) == Count | None


def test_an_experiment_holds_what_it_uses_and_no_more():
    experiment = Experiment(attack="blend+scaling", strategy="clip")
    assert {name for name, _ in experiment.own} == {
        "blend_alpha", "blend_image", "blend_space", "gamma", "scale_statistics", "clip_norm",
    }  # fmt: skip
    assert dict(Experiment(attack="dba").own) == {
        "dba_parts": None,
        "patch_size": 6,
    }  # declared by patch, which dba stands on
    assert experiment.changed(gamma=7.0).gamma == 7.0 and experiment.gamma is None and experiment.patch_size == 6
    assert experiment.changed(gamma=7.0, attack="blend").own == Experiment(attack="blend", strategy="clip").own
    assert experiment.changed(gamma=7.0) != experiment and Experiment().changed(gamma=7.0) == Experiment()
    with pytest.raises(AttributeError):
        experiment.xyzzy  # noqa: B018


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--strategy", "krum", "--gamma", "7"], ["--gamma 7", "gamma is scaling's", "--attack none does not use it"]),
        (["--strategy", "krum", "--multi-krum-m", "3"], ["multi_krum_m is multi_krum's", "--strategy krum does not"]),
        (["--strategy", "fedavg", "--clip-norm", "2"], ["clip_norm is clip's", "clamp", "--strategy fedavg"]),
        (["--scenario", "dba", "--blend-alpha", "0.2"], ["blend_alpha is blend's", "--attack dba"]),
        (["--sweep", "gamma=1,2", "--attack", "blend", "--malicious", "1"], ["gamma is scaling's", "--attack blend"]),
        (["--gamma", "2", "--sweep", "malicious=1,2", "--attack", "blend"], ["gamma is scaling's"]),
        (["--scenario", "fig2_krum", "--gamma", "2"], ["gamma is scaling's"]),
    ],
)
def test_settings_that_nobody_uses_are_refused_by_their_owners_name(arguments, words):
    with pytest.raises(UserError) as error:
        plan_of(parse_command(arguments))
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    "arguments",
    [
        ["--scenario", "clean", "--blend-alpha", "0.2"],
        ["--attack", "dba", "--malicious", "3", "--patch-size", "4"],
        ["--strategy", "clamp", "--clip-norm", "2"],
        ["--sweep", "strategy=fedavg,clip", "--clip-norm", "2"],
        ["--sweep", "attack=blend,blend+scaling", "--malicious", "1", "--gamma", "2"],
        ["--scenario", "course", "--gamma", "5"],
        ["--scenario", "course_differences", "--blend-image", "kitty.jpg"],
    ],
)
def test_settings_that_one_run_uses_are_taken(arguments):
    plan_of(parse_command(arguments))


def test_a_scenario_file_that_sets_what_it_does_not_use_is_refused_and_flags_over_one_are_not(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('attack = "blend"\nmalicious = 1\ngamma = 7.0\n')
    with pytest.raises(UserError, match=r"mine\.toml: .*gamma is scaling's"):
        load_scenario(str(file))
    file.write_text('attack = "blend+scaling"\nmalicious = 1\ngamma = 7.0\n')
    assert parse(["--scenario", str(file)]).gamma == 7.0
    assert dict(parse(["--scenario", str(file), "--attack", "blend"]).own).keys() == {
        "blend_alpha",
        "blend_image",
        "blend_space",
    }
    file.write_text('attack = "blend"\nmalicious = 1\ngamma = 7.0\n[sweep]\nattack = ["blend", "blend+scaling"]\n')
    load_scenario_file(str(file))


def test_a_sweep_over_what_one_strategy_uses_runs_the_other_once():
    plan = plan_of(parse_command(["--sweep", "strategy=fedavg,clip", "--sweep", "clip_norm=1,2"]))
    assert len(plan.experiments()) == 4 and len(set(plan.experiments())) == 3


def test_help_shows_every_shared_setting_and_of_plug_ins_those_that_are_named(capsys):
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(SHARED)

    def flags(*arguments):
        with pytest.raises(SystemExit) as exit_:
            parse(["--help", *arguments])
        assert exit_.value.code == 0
        printed = capsys.readouterr().out
        assert all(f"--{name.replace('_', '-')} " in printed for name in SHARED)
        return {name for name in declared() if f"--{name.replace('_', '-')} " in printed}

    assert flags() == set()
    assert flags("--strategy", "clip") == {"clip_norm"}
    assert flags("--strategy=clip", "--scenario", "scaling") == set(in_use("blend+scaling", "clip"))
    assert flags("--repair", "finetune") == set(in_use("none", "fedavg", "finetune")) != set()
    assert flags("--strategy", "nonsense") == set()
    assert users_of("patch_size") == ("dba", "fcba", "patch") and SETTINGS["patch_size"] == 6
