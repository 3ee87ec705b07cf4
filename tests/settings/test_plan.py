"""From scenario files, sweeps and repeats to the runs of a study."""

import dataclasses
import io

import pytest
from rich.console import Console

from oleander.experiment.progress import StudyListener
from oleander.settings.cli import known_scenarios, load_scenario_file, parse, parse_command
from oleander.settings.plan import plan_of
from oleander.system.errors import UserError
from tests.experiment.test_records import SUMMARY


def plan(*arguments):
    return plan_of(parse_command(list(arguments)))


def test_a_single_run_is_no_study():
    assert plan("--scenario", "dba", "--seed", "3") is None


def test_sweeps_multiply_and_repeats_count_the_seed_up():
    study = plan(
        "--scenario",
        "blend",
        "--sweep",
        "malicious=1,2",
        "--sweep",
        "strategy=fedavg,clip+krum",
        "--repeats",
        "3",
        "--seed",
        "5",
    )
    (chart,) = study.charts
    assert [(cell.x, cell.series) for cell in chart.cells] == [
        ("1", "fedavg"), ("2", "fedavg"), ("1", "clip+krum"), ("2", "clip+krum"),
    ]  # fmt: skip
    assert (chart.x_title, chart.series_title, chart.ordered) == ("malicious clients", "strategy", True)
    assert [e.seed for e in chart.cells[0].experiments] == [5, 6, 7]
    last = chart.cells[-1].experiments[0]
    assert (last.attack, last.malicious, last.strategy) == ("blend", 2, "clip+krum")
    experiments = study.experiments()
    assert len(experiments) == 12 and {e.seed for e in experiments[:4]} == {5}


def test_repeats_alone_repeat_the_scenario():
    (chart,) = plan("--scenario", "dba", "--repeats", "2").charts
    assert [e.seed for e in chart.cells[0].experiments] == [0, 1] and len(chart.cells) == 1


def test_values_have_their_settings_types():
    cells = (
        plan(
            "--strategy",
            "clip",
            "--attack",
            "scaling",
            "--malicious",
            "1",
            "--sweep",
            "clip_norm=median,2",
            "--sweep",
            "scale-statistics=true,false",
        )
        .charts[0]
        .cells
    )
    assert [(c.experiments[0].clip_norm, c.experiments[0].scale_statistics) for c in cells] == [
        ("median", True), (2, True), ("median", False), (2, False),
    ]  # fmt: skip


def test_a_sweep_of_the_command_line_replaces_the_scenarios_values_of_that_setting_and_keeps_the_others():
    own = plan("--scenario", "field", "--sweep", "strategy=krum,clip+krum", "--repeats", "1")
    every = plan("--scenario", "field")
    assert [chart.x_title for chart in own.charts] == [chart.x_title for chart in every.charts]
    assert {e.attack for e in own.experiments()} == {e.attack for e in every.experiments()}
    assert {e.strategy for e in own.experiments()} == {"krum", "clip+krum"}
    assert own.kind == "field-strategy"
    assert {core(e) for e in own.experiments() if e.strategy == "krum"} < set(map(core, every.experiments()))


def test_the_courses_figures_ask_for_seven_settings():
    study = plan("--scenario", "course", "--repeats", "5", "--rounds", "2", "--blend-image", "kitty.jpg")
    assert [chart.name[:4] for chart in study.charts] == ["fig1", "fig2", "fig3", "fig4", "fig5"]
    core = {(e.attack, e.strategy, e.malicious, e.clients_per_round, e.seed) for e in study.experiments()}
    assert len(core) == 7 * 5
    assert {(a, s, m, n) for a, s, m, n, _ in core} == {
        ("blend", "fedavg", 1, 5), ("blend", "fedavg", 2, 5), ("blend", "fedavg", 3, 5), ("blend", "krum", 1, 5),
        ("dba", "fedavg", 3, 6), ("blend+scaling", "fedavg", 1, 5), ("blend+scaling", "clip+fedavg", 1, 5),
    }  # fmt: skip
    assert all((e.rounds, e.gamma) == (2, None) for e in study.experiments())
    assert {e.blend_image for e in study.experiments() if "blend" in e.attack} == {"kitty.jpg"}
    assert plan("--scenario", "course").charts[0].cells[1].published.asr == 0.976
    assert study.charts[4].norms and not study.charts[0].norms


def test_course_differences_change_one_thing_at_a_time_of_a_setting_of_the_course():
    study = plan("--scenario", "course_differences", "--blend-image", "kitty.jpg")
    course = [e for chart in plan("--scenario", "course", "--blend-image", "kitty.jpg").charts for e in settings(chart)]
    assert len({core(e) for e in study.experiments()}) == 4 * 4
    for chart in study.charts:
        first, *others = map(core, settings(chart))
        assert first in map(core, course) and chart.cells[0].x == "nothing"
        for other in others:
            now, before = dict(other), dict(first)
            changed = {name for name in now | before if now.get(name) != before.get(name)}
            assert len(changed - {"multi_krum_m", "clip_norm"}) == 1


def test_durability_asks_for_curves_of_attackers_that_stay_and_that_leave():
    (chart,) = plan("--scenario", "durability").charts
    assert chart.rounds and [e.attack_rounds for e in settings(chart)] == [None, 5, None, 5]
    assert {(e.rounds, e.evaluate, e.evaluate_asr) for e in settings(chart)} == {(15, "every", "every")}


@pytest.mark.parametrize(
    ("scenario", "number", "line"),
    [
        ("course_differences", 5, "why_krum: augment round, strategy krum, seed 0"),
        ("why_dba", 3, ")  augment once, attack patch, seed 0"),
    ],
)
def test_the_line_of_a_finished_run_says_what_varies_in_its_part_of_the_study(scenario, number, line):
    experiments = plan("--scenario", scenario).experiments()
    listener = StudyListener(Console(file=(printed := io.StringIO()), width=200), experiments, 0)
    listener.run_began(experiments[number]).finished(dataclasses.replace(SUMMARY, seed=0))
    assert line in printed.getvalue()


def settings(chart):
    return [cell.experiments[0] for cell in chart.cells]


def core(experiment):
    """All that is of the experiment itself, to be compared."""
    return tuple((k, v) for k, v in experiment.settings().items() if k not in ("scenario", "description", "out"))


def test_selected_clients_is_two_to_six_by_one_to_three_three_times():
    study = plan("--scenario", "selected_clients")
    assert study.repeats == 3 and len(study.experiments()) == 45
    assert {e.clients_per_round for e in study.experiments()} == {2, 3, 4, 5, 6}
    assert plan("--scenario", "selected_clients", "--repeats", "1").repeats == 1


def test_every_scenario_that_ships_can_be_planned():
    for name in known_scenarios():
        scenario = load_scenario_file(name)
        study = plan("--scenario", name)
        assert (study is None) == (not scenario.study), name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sweep", "malicius=1"], ["malicius", "did you mean malicious"]),
        (["--sweep", "malicious"], ["malicious", "NAME=VALUE"]),
        (["--sweep", "malicious=one"], ["malicious = 'one'", "must be a whole number"]),
        (["--sweep", "poison_rate=0.5,3"], ["poison_rate = 3", "less than or equal to 1"]),
        (["--sweep", "malicious=1,1"], ["malicious", "twice"]),
        (["--sweep", "malicious=1", "--sweep", "malicious=2"], ["malicious is swept twice"]),
        (["--sweep", "seed=1,2"], ["seed", "--repeats"]),
        (["--sweep", "out=a,b"], ["out"]),
        (["--repeats", "0"], ["--repeats 0", "1 or more"]),
        (["--scenario", "fig1_malicious_count", "--malicious", "2"], ["--malicious 2", "fig1_malicious_count varies malicious"]),
        (["--scenario", "fig2_krum", "--sweep", "strategy=median"], ["--sweep strategy", "fig2_krum"]),
        (["--scenario", "selected_clients", "--sweep", "malicious=1", "--sweep", "malicious=2"], ["malicious is swept twice"]),
        (["--scenario", "selected_clients", "--malicious", "1"], ["varies malicious", "--sweep malicious=1 sets its values"]),
        (["--repeats", "6000", "--sweep", "malicious=0,1"], ["12000 runs", "at most"]),
        (["--scenario", "fig1_malicious_count", "--malicious", "1"], ["--malicious 1", "varies malicious"]),
        (["--scenario", "course", "--strategy", "fedavg"], ["--strategy fedavg", "varies strategy"]),
        (["--sweep", "gamma=1,1.0"], ["gamma", "twice"]),
        (["--sweep", "no_cache=true,false"], ["--sweep no_cache=true,false: it changes no result"]),
        (["--scenario", "dba", "--sweep", "malicious=1,1"], ["--sweep malicious=1,1: a value is there twice in [1, 1]"]),
        (["--client-threads", "20000", "--repeats", "2"], ["client_threads", "1024"]),
    ],
)  # fmt: skip
def test_studies_that_cannot_be_are_refused(arguments, words):
    with pytest.raises(UserError) as error:
        plan(*arguments)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[sweep]\nmalicous = [1]", ["malicous", "malicious"]),
        ("[sweep]\nmalicious = 1", ["malicious", "list of values"]),
        ("sweep = [1]", ["[sweep]", "table"]),
        ("[[point]]\nmalicious = 1", ["label"]),
        ('[[point]]\nlabel = "a"\nmalicous = 1', ["malicous", "malicious"]),
        ('[[point]]\nlabel = "a"\npublished = { mta = 3 }', ["published.mta", "less than or equal to 1"]),
        ("[figure]\ntitle = 3", ["[figure]", "title"]),
        ('include = ["clean"]\n[figure]\ntitle = "x"', ["include", "alone"]),
        ('include = ["nothing"]', ["nothing", "known"]),
        ("repeats = 0", ["repeats = 0"]),
        ("point = 3", ["[[point]]"]),
        ("point = [3]", ["[[point]]", "table"]),
        ('include = "clean"', ["include is a list"]),
        ('include = ["./none.toml"]', ["mine.toml: include", "none.toml: cannot read the file"]),
        ('[[point]]\nlabel = "a"\nlr = 0.1\n[[point]]\nlabel = "a"\nlr = 0.2', ["[[point]]: label = 'a' stands twice"]),
        ("figure = 3", ["[figure]: wanted a table of title, x, norms, rounds, not 3"]),
        ("[[point]]\nlabel = 3\nlr = 0.1", ["[[point]]: label = 3: "]),
        ('include = ["clean"]\nrounds = 20', ["include", "alone"]),
        ('include = ["clean", "clean"]', ["'clean'", "once"]),
        ('scenario = "a/b"\nrepeats = 2', ["'a/b'", "characters"]),
        ("[sweep]\nlr = [2020-01-01]", ["lr"]),
        ('[figure]\ntitel = "x"', ["titel"]),
        ('[[point]]\nlabel = "a"\npublished = { mat = 0.5 }', ["mat"]),
        ('[[point]]\nlabel = "a"\nseed = 3', ["seed", "whole study"]),
        ('include = ["course"]', ["course includes others"]),
        ("figure = 3", ["[figure]"]),
    ],
)
def test_bad_tables_are_refused(tmp_path, text, words):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        plan("--scenario", str(file))
    assert all(word in str(error.value) for word in words), error.value


def test_where_one_run_is_wanted_a_study_is_refused():
    for arguments in (["--scenario", "course"], ["--sweep", "malicious=1"], ["--repeats", "2"], ["--resume", "x"]):
        with pytest.raises(UserError, match="single run"):
            parse(arguments)


def test_a_flag_counts_even_where_it_is_the_default(tmp_path):
    (tmp_path / "mine.toml").write_text("rounds = 20\nrepeats = 2\n")
    assert {e.rounds for e in plan("--scenario", str(tmp_path / "mine.toml"), "--rounds", "5").experiments()} == {5}
    (tmp_path / "all.toml").write_text('include = ["./mine.toml"]\n')  # from the folder that it is in
    study = plan("--scenario", str(tmp_path / "all.toml"), "--rounds", "5")
    assert {e.rounds for e in study.experiments()} == {5} and study.repeats == 2


def test_published_values_stand_only_beside_the_setting_they_are_of():
    def published(*arguments):
        return plan("--scenario", "fig4_scaling", *arguments).charts[0].cells[0].published.mta

    assert published() == published("--dataset", "toy", "--seed", "3", "--repeats", "2") == 0.287
    assert published("--rounds", "1") is published("--sweep", "gamma=1,2") is None


def test_other_sweeps_and_settings_go_to_another_folder_and_more_seeds_do_not():
    course = ["--scenario", "course"]
    assert plan(*course).kind == plan(*course, "--repeats", "5", "--actors", "1").kind == "course"
    assert plan(*course, "--rounds", "2").kind != plan(*course, "--rounds", "3").kind
    blend = ["--scenario", "blend", "--sweep"]
    assert (
        plan(*blend, "malicious=1,2").kind
        == plan(*blend, "malicious=1,2,3", "--repeats", "2").kind
        == "blend-malicious"
    )
    assert plan(*blend, "strategy=krum").kind == "blend-strategy"


def test_points_are_joined_only_where_x_rises():
    ordered = [plan("--sweep", f"malicious={values}").charts[0].ordered for values in ("1,2,3", "3,1,2")]
    assert ordered == [True, False]
