"""What --sweep and its table take, in what words they are shown, and what a chart of them is called."""

import pytest

from oleander.settings.cli import parse_command
from oleander.settings.config import Experiment, shown_value
from oleander.settings.plan import plan_of
from oleander.settings.sweeps import Axis, axis_of, check_axes, varied, words
from oleander.system.errors import UserError


def plan(*arguments):
    return plan_of(parse_command(list(arguments)))


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("malicious=1,2,3", "malicious", [1, 2, 3]),
        ("--poison-rate=0.5", "poison_rate", [0.5]),
        (" --clip-norm = median , 2.5 ", "clip_norm", ["median", 2.5]),
        ("scale_statistics=true,false", "scale_statistics", [True, False]),
        ("strategy=clip+krum,median", "strategy", ["clip+krum", "median"]),
        ("blend_image=a=b.png", "blend_image", ["a=b.png"]),
        ("gamma=1e3,null", "gamma", [1000.0, "null"]),
        ('partition="iid",[]', "partition", ['"iid"', "[]"]),
        ("lr=-1", "lr", [-1]),
    ],
)
def test_a_sweep_is_a_setting_and_values_numbers_where_they_are(text, name, values):
    assert axis_of(text) == Axis(name, values)
    assert [type(value) for value in axis_of(text).values] == [type(value) for value in values]


@pytest.mark.parametrize("text", ["malicious", "malicious=", "malicious= ", "", "=1"])
def test_what_is_no_sweep_is_refused_with_an_example(text):
    with pytest.raises(UserError) as error:
        axis_of(text)
    assert str(error.value).startswith(f"--sweep {text}: ")
    assert text == "=1" or str(error.value).endswith("wanted NAME=VALUE,VALUE…, such as malicious=1,2,3")


@pytest.mark.parametrize(
    ("axes", "words_"),
    [
        ([Axis("seed", [1])], "mine: sweep of seed: --repeats gives several seeds"),
        ([Axis("round_timeout", [1])], "mine: sweep of round_timeout: it changes no result"),
        ([Axis("min_clients", [1])], "mine: sweep of min_clients: it changes no result"),
        ([Axis("data_dir", ["a"])], "mine: sweep of data_dir: it changes no result"),
        ([Axis("lr", [])], "mine: sweep of lr: wanted a list of values, not []"),
        ([Axis("lr", "ab")], "mine: sweep of lr: wanted a list of values, not 'ab'"),
        ([Axis("lr", [1, 2, 1])], "mine: sweep of lr: a value is there twice in [1, 2, 1]"),
        ([Axis("lr", [1, 2, 2])], "mine: sweep of lr: a value is there twice in [1, 2, 2]"),
        ([Axis("lr", [1]), Axis("gamma", [1]), Axis("lr", [2])], "mine: lr is swept twice"),
    ],
)
def test_axes_that_cannot_be_are_refused_in_these_words(axes, words_):
    with pytest.raises(UserError) as error:
        check_axes(axes, "mine")
    assert str(error.value) == words_


def test_axes_that_can_be_are_let_through():
    check_axes([], "mine")
    check_axes([Axis("lr", [0.1, 0.2]), Axis("gamma", [0.1])], "mine")
    with pytest.raises(UserError, match=r"mine: sweep.*learning_rate"):
        check_axes([Axis("learning_rate", [1])], "mine")


def test_settings_and_values_are_shown_in_the_fields_words():
    assert [shown_value(value) for value in (True, False, 1, 0.5, "median", None)] == [
        "true",
        "false",
        "1",
        "0.5",
        "median",
        "None",
    ]
    assert [words(name) for name in ("malicious", "clients_per_round", "gamma", "poison_rate", "lr", "scale_statistics")] == [
        "malicious clients", "clients per round", "scaling factor γ", "poison rate", "lr", "scale statistics",
    ]  # fmt: skip


def test_what_varies_is_what_runs_differ_in_but_for_their_seeds():
    base = Experiment()
    assert varied([base]) == varied([base, Experiment(seed=1, out="x", description="y")]) == []
    blend, patch = (Experiment(attack=attack, malicious=1) for attack in ("blend", "patch"))
    small = patch.changed(patch_size=4)
    assert varied([blend, small]) == ["attack"] and varied([blend, small, patch]) == ["attack", "patch_size"]
    assert varied([base, Experiment(lr=0.1, seed=1), Experiment(strategy="krum")]) == ["lr", "strategy"]
    split = [Experiment(attack="dba").changed(patch_size=3), Experiment(attack="blend")]
    assert varied(split) == ["attack"]  # blend has no patch
    assert varied([*split, Experiment(attack="patch").changed(patch_size=5)]) == ["attack", "patch_size"]


# ---- the chart -------------------------------------------------------------------------------------------------------


def chart(tmp_path, text, *arguments):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    study = plan("--scenario", str(file), *arguments)
    assert len(study.charts) == 1
    return study.charts[0]


def test_a_charts_titles_are_those_of_its_table_else_the_scenarios(tmp_path):
    bare = chart(tmp_path, 'scenario = "mine"\nrepeats = 2\n')
    assert (bare.name, bare.x_title, bare.series_title) == ("mine", "", "")
    assert bare.title == "No attack: FedAvg on auto (ResNet18Light)"
    assert (bare.ordered, bare.norms, bare.rounds) == (False, False, False)
    assert [(cell.x, cell.series) for cell in bare.cells] == [("none / fedavg", "")]
    assert not bare.cells[0].published.given
    described = chart(tmp_path, 'description = "What it is"\nrepeats = 2\n')
    assert described.title == "What it is"
    full = chart(
        tmp_path,
        'description = "What it is"\n[sweep]\nlr = [0.1, 0.2]\nmalicious = [0]\n'
        '[figure]\ntitle = "T"\nx = "X"\nnorms = true\nrounds = true\n',
    )
    assert (full.title, full.x_title, full.series_title) == ("T", "X", "malicious clients")
    assert (full.ordered, full.norms, full.rounds) == (True, True, True)


def test_of_several_swept_settings_the_first_is_x_and_the_others_are_lines(tmp_path):
    found = chart(
        tmp_path,
        'attack = "scaling"\n[sweep]\nmalicious = [1, 2]\n',
        "--sweep",
        "augment=once,round",
        "--sweep",
        "scale_statistics=true,false",
    )
    assert (found.x_title, found.series_title) == ("malicious clients", "augment, scale statistics")
    assert [(cell.x, cell.series) for cell in found.cells] == [
        ("1", "augment once, scale statistics true"), ("2", "augment once, scale statistics true"),
        ("1", "augment once, scale statistics false"), ("2", "augment once, scale statistics false"),
        ("1", "augment round, scale statistics true"), ("2", "augment round, scale statistics true"),
        ("1", "augment round, scale statistics false"), ("2", "augment round, scale statistics false"),
    ]  # fmt: skip
    for cell in found.cells:
        (experiment,) = cell.experiments
        assert (str(experiment.malicious), experiment.out) == (cell.x, "")
        scaled = str(experiment.scale_statistics).lower()
        assert cell.series == f"augment {experiment.augment}, scale statistics {scaled}"


def test_a_value_that_is_a_name_says_what_it_is_and_any_other_is_told_with_its_setting(tmp_path):
    swept = ("--sweep", "lr=0.1,0.2", "--sweep", "strategy=krum,fedavg", "--sweep", "repair=none,finetune")
    found = chart(tmp_path, 'attack = "blend"\nmalicious = 1\n', *swept)
    assert found.cells[0].series == "krum, repair none" and found.cells[-1].series == "fedavg, finetune"


def test_points_are_x_each_with_its_own_settings_and_swept_ones_are_lines(tmp_path):
    text = (
        'lr = 0.3\n[[point]]\nlabel = "A"\nstrategy = "krum"\npublished = { mta = 0.5 }\n'
        '[[point]]\nlabel = "B"\nlr = 0.1\npublished = { asr = 0.0 }\n'
    )
    found = chart(tmp_path, text)
    assert [(c.x, c.experiments[0].strategy, c.experiments[0].lr) for c in found.cells] == [
        ("A", "krum", 0.3),
        ("B", "fedavg", 0.1),
    ]
    assert [(c.published.mta, c.published.asr, c.published.given) for c in found.cells] == [
        (0.5, None, True),
        (None, 0.0, True),
    ]
    assert (found.x_title, found.ordered) == ("", False)
    lined = chart(tmp_path, text, "--sweep", "malicious=0,1")
    assert [(c.x, c.series) for c in lined.cells] == [("A", "0"), ("B", "0"), ("A", "1"), ("B", "1")]
    assert not any(c.published.given for c in lined.cells)
    assert lined.series_title == "malicious clients"


@pytest.mark.parametrize(
    ("values", "rises"), [("1,2,3", True), ("1", True), ("0,1,3", True), ("3,2", False), ("1,3,2", False)]
)
def test_x_rises_only_where_every_value_is_above_the_one_before(values, rises):
    assert plan("--sweep", f"malicious={values}").charts[0].ordered is rises


def test_x_of_words_or_of_true_and_false_does_not_rise():
    assert not plan("--sweep", "strategy=fedavg,median").charts[0].ordered
    assert (
        not plan("--attack", "scaling", "--malicious", "1", "--sweep", "scale_statistics=false,true").charts[0].ordered
    )
    assert not plan("--strategy", "clip", "--sweep", "clip_norm=1,median").charts[0].ordered


def test_a_setting_given_for_all_leaves_what_was_published_only_if_it_is_the_same_setting(tmp_path):
    text = '[[point]]\nlabel = "A"\nstrategy = "krum"\npublished = { mta = 0.5 }\n'
    for same in (
        ["--dataset", "toy"],
        ["--weights", "fresh"],
        ["--precision", "fp32"],
        ["--evaluate", "last"],
        ["--seed", "3"],
    ):
        assert chart(tmp_path, text, *same).cells[0].published.mta == 0.5
    for other in (["--lr", "0.1"], ["--rounds", "7"], ["--dataset", "toy", "--lr", "0.1"]):
        assert chart(tmp_path, text, *other).cells[0].published.mta is None


def test_repeats_are_the_flags_else_the_most_that_a_part_asks_for(tmp_path):
    for name, repeats in (("a", 2), ("b", 4)):
        (tmp_path / f"{name}.toml").write_text(f'scenario = "{name}"\nrepeats = {repeats}\n')
    both = tmp_path / "both.toml"
    both.write_text(f'include = ["{tmp_path / "a.toml"}", "{tmp_path / "b.toml"}"]\nrepeats = 3\n')
    for arguments, repeats in (([], 4), (["--repeats", "1"], 1), (["--repeats", "9"], 9)):
        study = plan("--scenario", str(both), *arguments)
        assert study.repeats == repeats and [chart.name for chart in study.charts] == ["a", "b"]
        assert [len(cell.experiments) for chart in study.charts for cell in chart.cells] == [repeats] * 2
        seeds = [experiment.seed for experiment in study.experiments()]
        assert seeds == [seed for seed in range(repeats) for _ in range(2)]


@pytest.mark.parametrize(
    ("text", "words_"),
    [
        ("repeats = true\n", "repeats = True: wanted a whole number, 1 or more"),
        ("repeats = 1.5\n", "repeats = 1.5: wanted a whole number, 1 or more"),
        ("repeats = -1\n", "repeats = -1: wanted a whole number, 1 or more"),
        ("sweep = 3\n", "[sweep] is a table of settings and lists of their values"),
        ("point = 3\n", "point is a list of tables: write [[point]]"),
        ("point = [3]\n", "[[point]] is a table of settings with a label"),
        ("include = []\n", "include is a list of scenarios, and stands alone but for description and repeats"),
        ("include = [3]\n", "include is a list of scenarios, and stands alone but for description and repeats"),
        ('[[point]]\nlabel = "a"\nround_timeout = 3\n', "[[point]]: round_timeout is set for the whole study"),
    ],
)
def test_tables_that_cannot_be_are_refused_in_these_words(tmp_path, text, words_):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        plan("--scenario", str(file))
    assert str(error.value) == f"{file}: {words_}"


def test_a_study_of_as_many_runs_as_may_be_is_planned_and_one_more_is_not():
    assert len(plan("--sweep", "malicious=0,1", "--repeats", "5000").experiments()) == 10_000
    for arguments, count in (
        (["--repeats", "5001"], 10_002),
        (["--sweep", "augment=once,round,epoch", "--repeats", "1667"], 10_002),
    ):
        with pytest.raises(UserError, match=f"{count} runs; at most 10000"):
            plan("--sweep", "malicious=0,1", *arguments)


def test_a_flag_and_a_sweep_cannot_set_what_the_study_varies(tmp_path):
    for text, way in (
        ('[[point]]\nlabel = "A"\nlr = 0.1\n', ""),
        ("[sweep]\nlr = [0.1]\n", "; --sweep lr=0.2 sets its values"),
    ):
        with pytest.raises(UserError, match=rf"^--lr 0.2: .* varies lr, so it cannot be set for all{way}$"):
            chart(tmp_path, text, "--lr", "0.2")
    with pytest.raises(UserError, match=r"^--sweep lr: the points of .* set it already$"):
        chart(tmp_path, '[[point]]\nlabel = "A"\nlr = 0.1\n', "--sweep", "lr=0.1,0.2")
    assert (
        chart(tmp_path, '[[point]]\nlabel = "A"\nlr = 0.1\n', "--momentum", "0.1").cells[0].experiments[0].momentum
        == 0.1
    )
