"""Plug-ins from outside the repository: files of the user's and entry points; what is refused, what records say, what never runs."""

import hashlib
import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from oleander.experiment.prepare import Sources, prepare
from oleander.experiment.records import RunFolder, settings_of, taken_up, write_scenario
from oleander.experiment.study import Job, changed_plugins, run_key
from oleander.settings import outside, steps
from oleander.settings.cli import load_record, load_scenario, parse, parse_command
from oleander.settings.config import SETTINGS, Experiment
from oleander.settings.declared import declared
from oleander.settings.plan import plan_of
from oleander.settings.registry import use_dataset
from oleander.system.errors import UserError
from strategies import pipeline_of
from tests.cohorts import random_cohort
from tests.spaces import attack_of

RULE = '''"""A rule of one's own."""

from dataclasses import replace

from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.ranges import Positive
from strategies.fedavg import fedavg


def my_rule(cohort: Cohort, *, assumed_malicious: int, my_rule_beta: Positive = 2.0) -> Aggregate:
    """FedAvg, β times as far.

    Args:
        cohort: n updates.
        assumed_malicious: not looked at.
        my_rule_beta: How far (> 0).
    """
    found = fedavg(cohort)
    return replace(found, delta=np.float32(my_rule_beta) * found.delta)


import numpy as np
'''
ATTACK = '''"""An attack of one's own."""

from dataclasses import replace

from attacks import Attack
from oleander.settings.ranges import Positive


def my_attack(attack: Attack, *, my_attack_by: Positive = 1.0) -> Attack:
    """Send the opposite."""
    def turn(update):
        return replace(update, delta=-my_attack_by * update.delta)

    return replace(attack, tampers=(*attack.tampers, turn))
'''


@pytest.fixture(autouse=True)
def forgotten():
    yield
    outside.forget()


@pytest.fixture
def rule(tmp_path):
    file = tmp_path / "my_rule.py"
    file.write_text(RULE)
    return file


@pytest.fixture
def attack(tmp_path):
    file = tmp_path / "my_attack.py"
    file.write_text(ATTACK)
    return file


def refused(arguments, *words):
    with pytest.raises(UserError) as error:
        pipeline_of(parse(arguments))
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value) and error.value.exit_code == 2


@pytest.mark.parametrize(
    ("joined", "apart", "names"),
    [
        ("clip+krum", ["clip", "krum"], "clip+krum"),
        ("clip+./my_rule.py", ["clip", "./my_rule.py"], "clip+my_rule"),
        ("/home/c++/a.py+clip+b.py", ["/home/c++/a.py", "clip", "b.py"], "a+clip+b"),
        ("./a+b/c.py", ["./a+b/c.py"], "c"),
        ("none", ["none"], "none"),
    ],
)
def test_steps_are_told_apart_also_where_a_path_has_a_plus(joined, apart, names):
    assert steps.split(joined) == apart and steps.shown(joined) == names


def test_a_file_of_ones_own_runs_with_settings_of_its_own(rule, monkeypatch):
    experiment = parse(["--strategy", f"clip+{rule}", "--my-rule-beta", "3", "--clip-norm", "1e9"])
    pipeline, cohort = pipeline_of(experiment), random_cohort(5)
    assert pipeline.name == "clip+my_rule" and experiment.my_rule_beta == 3.0
    mean = pipeline_of(Experiment()).run(cohort, {}, None).aggregate.delta
    np.testing.assert_allclose(pipeline.run(cohort, {}, None).aggregate.delta, 3 * mean, rtol=1e-5)
    monkeypatch.chdir(rule.parent)
    assert pipeline_of(parse(["--strategy=./my_rule.py"])).name == "my_rule"
    assert pipeline_of(parse(["--strategy", "my_rule.py"])).name == "my_rule"


def test_several_at_once_and_an_attack(rule, attack):
    experiment = parse(
        ["--strategy", str(rule), "--attack", f"blend+{attack}", "--malicious", "1", "--my-attack-by", "2"]
    )
    assert len(attack_of(experiment).tampers) == 1 and attack_of(experiment).trigger
    assert dict(experiment.own)["my_attack_by"] == 2.0 and dict(experiment.own)["my_rule_beta"] == 2.0


def test_nobody_elses_settings_or_help_know_of_it_and_the_next_command_line_has_forgotten_it(rule, capsys):
    before = dict(SETTINGS)
    parse(["--strategy", str(rule)])
    assert SETTINGS["my_rule_beta"] == 2.0
    with pytest.raises(SystemExit) as exit_:
        parse(["--help", "--strategy", str(rule)])
    printed = capsys.readouterr().out
    assert exit_.value.code == 0 and "--my-rule-beta " in printed and "sha256" not in printed
    parse(["--strategy", "krum"])
    assert before == SETTINGS and "my_rule_beta" not in declared()
    with pytest.raises(SystemExit) as exit_:
        parse(["--strategy", "krum", "--my-rule-beta", "3"])
    assert exit_.value.code == 2


def test_its_settings_are_checked_swept_and_refused_where_nobody_uses_them(rule):
    refused(["--strategy", str(rule), "--my-rule-beta", "-1"], "my_rule_beta = -1.0", "greater than 0")
    plan = plan_of(parse_command(["--sweep", f"strategy=fedavg,{rule}", "--sweep", "my_rule_beta=1,2"]))
    assert len(set(plan.experiments())) == 3
    assert {cell.x for cell in plan.charts[0].cells} == {"fedavg", "my_rule"}
    with pytest.raises(UserError, match="gamma is scaling's"):
        plan_of(parse_command(["--sweep", f"strategy=fedavg,{rule}", "--gamma", "2"]))


def spoilt(old, new):
    assert old in RULE
    return RULE.replace(old, new)


BAD = {
    "no function of its name": (spoilt("def my_rule(", "def other("), ["no function named my_rule"]),
    "no docstring": ('def my_rule(cohort: "Cohort") -> "Aggregate":\n    return 1\n', ["no docstring"]),
    "syntax": ("def my_rule(:\n", ["my_rule.py, line 1", "invalid syntax"]),
    "nul": ("\0", ["null"]),
    "no types": ('def my_rule(cohort):\n    """X."""\n', ["nothing declared → nothing declared", "filter (Cohort → Cohort)", "rule"]),
    "another type": (spoilt("-> Aggregate", "-> int"), ["Cohort → int", "rule (Cohort → Aggregate)"]),
    "two cohorts": (spoilt("cohort: Cohort,", "cohort: Cohort, other: Cohort,"), ["Cohort, Cohort → Aggregate", "known"]),
    "unknown keyword": (spoilt("assumed_malicious: int", "assumed_malicius: int"), ["assumed_malicius", "mean assumed_malicious?"]),
    "nobody can know": (spoilt("assumed_malicious: int", "true_attackers: int"), ["true_attackers", "memory, rng, layout, root"]),
    "memory without returning it": (spoilt("assumed_malicious: int", "memory: dict"), ["memory returns tuple"]),
    "no type of a setting": (spoilt("my_rule_beta: Positive", "my_rule_beta: float"), ["my_rule_beta", "Positive", "Rate"]),
    "a default out of its range": (spoilt("= 2.0", "= -2.0"), ["my_rule_beta", "-2.0", "greater than 0"]),
    "a shared setting's name": (spoilt("my_rule_beta: Positive = 2.0", "lr: Positive = 2.0"), ["lr of my_rule is a shared setting"]),
    "another's": (spoilt("my_rule_beta: Positive = 2.0", "gamma: Positive = 2.0"), ["is scaling's", "my_rule_gamma"]),
    "import error": (spoilt("from strategies.fedavg", "from strategies.fedavgg"), ["line 7", "cannot be imported", "fedavgg"]),
    "an error when it is imported": (RULE + "1 / 0\n", ["cannot be imported", "ZeroDivisionError", "line "]),
    "it ends the program": (RULE + "import sys; sys.exit(0)\n", ["cannot be imported", "SystemExit"]),
    "it ends the program when it is tried": (spoilt("found = fedavg(cohort)", "quit()"), ["line 18", "SystemExit"]),
    "an error when it is tried": (spoilt("found = fedavg(cohort)", "found = cohort.nothing"), ["line 18", "AttributeError"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_is_no_plug_in_is_refused_in_one_line(rule, case):
    text, words = BAD[case]
    rule.write_text(text)
    refused(["--strategy", str(rule)], f"--strategy {rule}", *words)


def test_names_and_files_that_cannot_be(tmp_path, rule):
    refused(["--strategy", str(tmp_path / "nowhere.py")], "there is no file", "nowhere.py")
    (tmp_path / "rule.txt").write_text(RULE)
    refused(["--strategy", str(tmp_path / "rule.txt")], "not a .py file")
    refused(["--strategy", str(tmp_path)], "not a .py file")
    (tmp_path / "dir.py").mkdir()
    refused(["--strategy", str(tmp_path / "dir.py")], "dir.py")
    for name, words in (
        ("krum", ["strategies/krum.py"]),
        ("blend", ["attacks/blend.py"]),
        ("seed", ["setting"]),
        ("my-rule", ["function"]),
    ):
        (tmp_path / f"{name}.py").write_text(RULE)
        refused(["--strategy", str(tmp_path / f"{name}.py")], f"{name}.py", *words)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "my_rule.py").write_text(RULE)
    refused(["--strategy", f"{rule}+{tmp_path / 'b' / 'my_rule.py'}"], str(rule), "my_rule already")
    refused(["--strategy", "nonsense"], "'nonsense' is unknown", "krum", "./NAME.py")
    rule.write_bytes(b"\xff\xfe")
    refused(["--strategy", str(rule)], "my_rule.py", "utf-8")


def test_aliases_and_types_as_strings_are_understood(rule):
    rule.write_text(
        spoilt("import Aggregate, Cohort", "import Aggregate, Cohort as C").replace("cohort: Cohort", 'cohort: "C"')
    )
    assert pipeline_of(parse(["--strategy", str(rule)])).name == "my_rule"
    rule.write_text("from __future__ import annotations\n" + RULE)
    assert pipeline_of(parse(["--strategy", str(rule)])).name == "my_rule"


def test_the_records_name_file_and_hash_and_run_again_from_anywhere(rule, attack, tmp_path, monkeypatch, image_folder):
    monkeypatch.chdir(tmp_path)
    settings = [
        "--dataset",
        f"folder:{image_folder}",
        "--weights",
        "fresh",
        "--samples-per-client",
        "8",
        "--clients",
        "3",
    ]
    settings += ["--clients-per-round", "2", "--malicious", "1", "--attack", "patch+./my_attack.py"]
    setup = prepare(parse(["--strategy", "./my_rule.py", "--my-rule-beta", "3", *settings]), Sources(print))
    write_scenario(tmp_path / "config.toml", setup.experiment)
    text = (tmp_path / "config.toml").read_text()
    assert f'strategy = "{rule}"' in text and f'attack = "patch+{attack}"' in text
    assert f'my_rule_sha256 = "{hashlib.sha256(RULE.encode()).hexdigest()}"' in text
    monkeypatch.chdir("/")
    again = prepare(parse(["--scenario", str(tmp_path / "config.toml")]), Sources(print))
    assert run_key(again) == run_key(setup) and again.experiment.own == setup.experiment.own
    rule.write_text(RULE + "# another\n")
    refused(
        ["--scenario", str(tmp_path / "config.toml")], "config.toml", str(rule), "SHA-256", "recorded", "another run"
    )
    settings[settings.index("patch+./my_attack.py")] = f"patch+{attack}"
    other = prepare(parse(["--strategy", str(rule), "--my-rule-beta", "3", *settings]), Sources(print))
    assert run_key(other) != run_key(setup)
    (tmp_path / "moved").mkdir()
    moved = rule.rename(tmp_path / "moved" / "my_rule.py")
    elsewhere = prepare(parse(["--strategy", str(moved), "--my-rule-beta", "3", *settings]), Sources(print))
    assert run_key(elsewhere) == run_key(other)  # the content counts, not where it lies


def test_a_run_is_taken_up_with_the_same_file_alone(rule, tmp_path):
    folder = RunFolder(tmp_path / "run")
    write_scenario(folder.path / "config.toml", parse(["--strategy", str(rule), "--my-rule-beta", "3"]))
    folder.release()
    experiment, again = taken_up(parse_command(["--resume", str(folder.path)]))
    again.release()
    assert experiment.my_rule_beta == 3.0 and pipeline_of(experiment).name == "my_rule"
    rule.write_text(RULE + "# another\n")
    with pytest.raises(UserError, match="not the file that it was"):
        taken_up(parse_command(["--resume", str(folder.path)]))
    rule.unlink()
    with pytest.raises(UserError, match="there is no file"):
        taken_up(parse_command(["--resume", str(folder.path)]))


def test_a_run_whose_file_changes_after_it_was_planned_is_refused(rule):
    experiment = parse(["--strategy", str(rule)])
    rule.write_text(RULE + "# another\n")
    with pytest.raises(UserError, match="not the file that it was"):
        pipeline_of(experiment)


def test_what_a_record_names_is_neither_run_nor_looked_for(rule, tmp_path, monkeypatch):
    mark = tmp_path / "ran"
    rule.write_text(f"open({str(mark)!r}, 'w')\n" + RULE)
    write_scenario(tmp_path / "config.toml", parse(["--strategy", str(rule), "--my-rule-beta", "3"]))
    outside.forget()
    monkeypatch.setattr(outside, "use", None)
    for _ in range(2):
        read = settings_of(tmp_path)
        assert read.strategy == str(rule) and read.my_rule_beta == 3.0 and not mark.exists()
        assert Experiment.from_json(read.to_json()) == read
        rule.unlink(missing_ok=True)


@pytest.mark.parametrize("line", ["my_rule_beta = [1]", "lr = -1", "[a]\nb = 1"])
def test_a_record_with_what_is_no_setting_is_refused(rule, tmp_path, line):
    file = tmp_path / "config.toml"
    file.write_text(f'strategy = "{rule}"\n{line}\n')
    with pytest.raises(UserError):
        load_record(file)
    file.write_text('strategy = "krum"\nmy_rule_beta = 1\n')
    with pytest.raises(UserError, match="not a setting"):
        load_record(file)


def test_a_clients_process_needs_the_attacks_file_and_not_the_rules(rule, attack):
    told = parse(
        ["--strategy", str(rule), "--attack", str(attack), "--malicious", "1", "--my-attack-by", "2"]
    ).to_json()
    outside.forget()
    rule.unlink()
    experiment = Experiment.from_json(told)
    assert len(attack_of(experiment).tampers) == 1 and experiment.my_attack_by == 2.0
    attack.unlink()
    with pytest.raises(UserError, match=r"there is no file .*my_attack\.py"):
        attack_of(experiment)


def test_a_scenario_and_its_tables_may_name_files(rule, tmp_path):
    file = tmp_path / "study.toml"
    file.write_text(f'my_rule_beta = 3.0\n[sweep]\nstrategy = ["fedavg", "{rule}"]\n')
    assert len(plan_of(parse_command(["--scenario", str(file)])).experiments()) == 2
    file.write_text(f'[[point]]\nlabel = "mine"\nstrategy = "{rule}"\nmy_rule_beta = 3.0\n')
    assert plan_of(parse_command(["--scenario", str(file)])).experiments()[0].my_rule_beta == 3.0
    file.write_text(f'strategy = "{rule}"\n')
    assert load_scenario(str(file)).my_rule_beta == 2.0


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with an entry point; importing anything of it leaves a mark."""
    package, about = tmp_path / "site" / "their_package", tmp_path / "site" / "their_package-1.0.dist-info"
    for folder in (package, about):
        folder.mkdir(parents=True)
    (package / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (package / "my_rule.py").write_text(RULE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[oleander.strategies]\nmy_rule = their_package.my_rule\nlost = their_package.lost\nkrum = their_package.krum\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    importlib.invalidate_caches()
    yield package
    for name in [name for name in sys.modules if name.startswith("their_package")]:
        del sys.modules[name]


def test_an_entry_point_is_a_plug_in_and_is_imported_only_to_be_run(installed, tmp_path):
    experiment = parse(["--strategy", "clip+my_rule", "--my-rule-beta", "3"])
    assert experiment.strategy == "clip+my_rule" and not (tmp_path / "ran").exists()
    assert dict(experiment.own)["my_rule_sha256"] == hashlib.sha256(RULE.encode()).hexdigest()
    assert pipeline_of(experiment).name == "clip+my_rule" and (tmp_path / "ran").exists()
    refused(["--strategy", "lost"], "their_package.lost", "oleander.strategies")
    assert pipeline_of(parse(["--strategy", "krum"])).name == "krum"  # a built-in name is never another's
    (installed / "my_rule.py").write_text(RULE + "# another\n")
    with pytest.raises(UserError, match="not the file that it was"):
        pipeline_of(experiment)


def test_the_examples_of_contributing_are_plug_ins(tmp_path):
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    section = text[text.index("## A plug-in of your own") : text.index("## What the network")]
    for code in re.findall(r"```python\n(.*?)```", section, re.S):
        (tmp_path / f"{re.search(r'^def (.*?)[(]', code, re.M)[1]}.py").write_text(code)
    steps_ = f"{tmp_path}/my_trigger.py+{tmp_path}/my_push.py"
    words = ["--strategy", f"clip+{tmp_path}/my_rule.py", "--my-rule-beta", "3", "--attack", steps_, "--malicious", "1"]
    experiment = parse([*words, "--my-trigger-side", "3", "--my-push-by", "4"])
    attack = attack_of(experiment)
    assert attack.trigger(torch.zeros(1, 3, 8, 8)).sum() == 3 * 9 and len(attack.tampers) == 1
    assert pipeline_of(experiment).name == "clip+my_rule"


def test_a_study_says_that_runs_with_another_file_do_not_count(rule, tmp_path):
    then = parse(["--strategy", str(rule)])
    for name in ("a", "b"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        write_scenario(tmp_path / "runs" / name / "config.toml", then)
    (tmp_path / "runs" / "a" / "summary.json").touch()  # b is not finished
    job = Job(then, tmp_path / "runs" / "new")
    assert changed_plugins(tmp_path, [job]) == []
    rule.write_text(RULE + "# another\n")
    (told,) = changed_plugins(tmp_path, [Job(parse(["--strategy", str(rule)]), tmp_path / "runs" / "new")])
    assert "my_rule has another SHA-256" in told and "when 1 finished run" in told and "run anew" in told


def test_a_folder_that_is_given_as_it_is_is_asked_for_with_the_word_that_names_it(tmp_path):
    with pytest.raises(UserError, match=f"did you mean folder:{tmp_path}"):
        use_dataset(str(tmp_path))
