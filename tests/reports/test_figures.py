"""The figures of runs and studies that show classes, clients and two settings, from made-up records; old folders lack them."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import tomli_w

from oleander.experiment.classes import ClassCounts, write_classes
from oleander.experiment.study import Runs, StudyResult
from oleander.reports import charts, gallery, plots
from oleander.reports.headings import own_words, run_title
from oleander.reports.style import STYLE, wrapped
from oleander.settings.cli import load_scenario
from oleander.settings.config import Experiment
from oleander.settings.plan import Chart, Published
from oleander.system.errors import UserError
from tests.experiment.test_records import ROUND, START, SUMMARY, folder_of

COUNTS = ClassCounts(
    ["cat", "dog", "cow"], 0, [[5, 0, 1]] * 6, [[9, 1, 0, 0], [0, 10, 0, 0], [1, 0, 8, 1]],
    [[0, 0, 0, 0], [9, 1, 0, 0], [4, 0, 5, 1]], stamped=True,
)  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A run's folder with all that new runs keep."""
    folder = folder_of(tmp_path / "run", [START, replace(ROUND, cosines=[0.9, -0.1, None])])
    write_classes(folder.path, COUNTS)
    return folder.path


def drawn(folder, name):
    return plots.run_figure(folder, SUMMARY, name)


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_the_confusion_of_stamped_images_is_in_percents_of_each_class(run):
    (axes,) = drawn(run, "confusion").axes
    assert texts(axes) == ["90", "10", "40", "50", "10"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "dog", "cow", "none"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["dog", "cow"]


def test_each_class_has_its_accuracy_and_its_share_that_becomes_the_target(run):
    axes = drawn(run, "classes").axes[0]
    right, wanted = (line.get_xdata() for line in axes.lines)
    assert list(right) == [0.9, 1.0, 0.8] and list(wanted) == [0.9, 0.4]


def test_shards_are_a_row_a_client_and_the_malicious_are_marked(run):
    (run / "config.toml").write_text(tomli_w.dumps({"attack": "blend", "malicious": 2}))
    axes = drawn(run, "shards").axes[0]
    assert axes.images[0].get_array().shape == (6, 3) and texts(axes) == ["5", "1"] * 6
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0*", "1*", "2", "3", "4", "5"]


def test_shards_of_a_hundred_clients_are_sorted_by_the_class_that_they_hold_most_of(run):
    held = [[int(client % 3 == column) * 9 for column in range(3)] for client in range(100)]
    write_classes(run, replace(COUNTS, shards=held))
    axes = drawn(run, "shards").axes[0]
    assert np.asarray(axes.images[0].get_array()).argmax(1).tolist() == [0] * 34 + [1] * 33 + [2] * 33
    assert [label.get_text() for label in axes.get_yticklabels()] == ["100 benign"] and not axes.texts


def test_every_update_has_its_norm_and_its_cosine(run):
    norms, cosines, *_ = drawn(run, "updates").axes
    assert texts(norms) == ["9.0", "2.0", "3.0"] and texts(cosines) == ["0.90", "−0.10"]
    assert [label.get_text() for label in norms.get_yticklabels()] == ["0*", "2", "3"]


def test_no_number_in_a_figure_has_an_exponent_and_no_zero_a_minus(tmp_path):
    record = replace(ROUND, norms_before=[99.7, 98.0, 1.5e5], cosines=[-0.001, 0.0, -0.5])
    folder = folder_of(tmp_path / "run", [START, record]).path
    norms, cosines, *bars = drawn(folder, "updates").axes
    assert texts(norms) == ["100", "98", "150,000"] and texts(cosines) == ["0.00", "0.00", "−0.50"]
    ticks = [label.get_text() for axes in [*bars, *drawn(folder, "norms").axes] for label in axes.get_yticklabels()]
    assert "100,000" in ticks and not [tick for tick in ticks if "e" in tick or "-" in tick]


def test_a_folder_of_before_has_the_figures_that_it_has_the_numbers_for(tmp_path):
    folder = folder_of(tmp_path / "run", [START, ROUND]).path
    plots.draw_figures(folder, SUMMARY)
    assert {path.stem for path in (folder / "figures").iterdir()} == {"scores", "norms", "samples"}
    with pytest.raises(UserError, match="does not hold what it shows"):
        drawn(folder, "confusion")


def test_norms_have_one_scale_before_and_after_and_are_drawn_once_where_nothing_changed(run):
    before, after = drawn(run, "norms").axes
    assert before.get_ylim() == after.get_ylim() and list(before.get_yticks()) == list(after.get_yticks())
    (run / "rounds.jsonl").unlink()
    same = folder_of(run.parent / "same", [START, replace(ROUND, norms_after=ROUND.norms_before)]).path
    assert len(drawn(same, "norms").axes) == 1


def samples(path, **more):
    clean = np.full((3, 1, 16, 16), 100, np.uint8)
    whole = clean.copy()
    whole[:, :, -2:, -2:] += 10
    content = {"clean": clean, "whole": whole, "parts": whole[None], "classes": np.array(["dog", "<b>", "cat"]),
               "target": np.array("cat"), "answers": np.array([["dog", "<b>", "cat"], ["cat", "", "cat"]]),
               "sure": np.array([[0.9, 0.8, 1], [0.98, 0, 1]], np.float32)}  # fmt: skip
    np.savez(path / "samples.npz", **{name: value for name, value in (content | more).items() if value is not None})


def test_the_gallery_says_what_each_image_is_answered_before_and_after(run):
    samples(run)
    figure = drawn(run, "samples")
    said = [text for axes in figure.axes for text in texts(axes)]
    assert "dog → cat, 98 %" in said and "<b> → no answer" in " ".join(said) and "cat → cat, 100 %" in said
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert {"dog", "<b>", "cat (the target)"} <= set(titles)
    assert "1 of 2 images of other classes are answered “cat”" in figure.get_suptitle().replace("\n", " ")
    assert "difference ×25" in [
        axes.get_xlabel() for axes in figure.axes
    ] and "25 times as strong" in figure.get_supxlabel().replace("\n", " ")


def test_a_difference_that_can_be_seen_is_not_amplified():
    clean, whole = np.zeros((1, 1, 2, 2), np.uint8), np.full((1, 1, 2, 2), 200, np.uint8)
    assert gallery.amplified(clean, whole)[1] == 1 and gallery.amplified(clean, clean)[1] == 1
    change, factor = gallery.amplified(whole, whole - 10)
    assert factor == 25 and (change == 250).all()


@pytest.mark.parametrize("more", [
    {"answers": np.array([["a"] * 3])}, {"answers": None}, {"sure": None}, {"target": None}, {"target": np.array(["cat"])},
    {"sure": np.full((2, 3), 1.5, np.float32)}, {"sure": np.full((2, 3), np.nan, np.float32)}, {"answers": np.zeros((2, 3))},
])  # fmt: skip
def test_answers_that_do_not_fit_are_refused(run, more):
    samples(run, **more)
    with pytest.raises(UserError, match=r"samples\.npz"):
        gallery.read_samples(run)


def study(tmp_path, attacks=("dba", "blend"), rules=("fedavg", "krum", "median")):
    cells = []
    for number, (attack, rule) in enumerate(itertools.product(attacks, rules)):
        found = tuple(
            replace(SUMMARY, seed=s, mta=max(0.9 - number / 20, 0), asr=min((number + s) / 10, 1)) for s in range(2)
        )
        cells.append(Runs(rule, attack, Published(), (tmp_path,) * 2, found))
    return StudyResult(
        "s",
        "d",
        "c",
        2,
        (Chart("a", "T", "strategy", "attack", ordered=False, norms=False, rounds=False, cells=tuple(cells)),),
    )


def test_two_settings_that_vary_make_a_heat_map_of_mta_and_of_asr(tmp_path):
    mta, asr = charts.study_figure(study(tmp_path), "a_grid").axes
    assert np.asarray(mta.images[0].get_array()) == pytest.approx(0.9 - np.arange(6).reshape(2, 3) / 20)
    assert np.asarray(asr.images[0].get_array()) == pytest.approx((np.arange(6).reshape(2, 3) + 0.5) / 10)
    assert texts(asr) == ["5", "15", "25", "35", "45", "55"]
    assert [label.get_text() for label in mta.get_yticklabels()] == ["dba", "blend"]


def test_a_description_that_ends_in_a_full_stop_has_one_before_what_follows_it(tmp_path):
    found = study(tmp_path)
    described = replace(found, charts=tuple(replace(chart, title="Each against each.") for chart in found.charts))
    for name in ("a_grid", "a_trade"):
        below = charts.study_figure(described, name).get_supxlabel()
        assert ".." not in below and below.startswith("Each against each. ")


def test_names_of_joined_steps_are_broken_between_steps():
    assert wrapped("patch+scaling+fit_norm", 16) == "patch+scaling+\nfit_norm"
    assert wrapped("patch+scaling", 16) == "patch+scaling" and wrapped("two + two words", 6) == "two +\ntwo\nwords"


def test_a_tall_grid_names_its_columns_under_each_panel(tmp_path):
    few, many = study(tmp_path), study(tmp_path / "tall", attacks=tuple("abcdefghijkl"))
    under = [
        [bool(axes.xaxis.get_tick_params()["labelbottom"]) for axes in charts.study_figure(found, "a_grid").axes]
        for found in (few, many)
    ]
    assert under == [[False, True], [True, True]]


def test_more_settings_than_marks_can_be_told_apart_have_a_heat_map_alone(tmp_path):
    attacks = [f"r{n}" for n in range(charts.MOST_SERIES + 1)]
    few, many = (charts._figures(study(tmp_path, attacks=some)) for some in (attacks[1:], attacks))
    assert list(few) == ["a", "a_grid", "a_trade"] and list(many) == ["a_grid", "a_trade"]


def boxes(figure, axes):
    """What each number takes up, in pixels."""
    figure.draw_without_rendering()
    return [text.get_window_extent() for text in axes.texts]


def test_the_numbers_of_settings_that_come_to_the_same_stand_apart(tmp_path):
    (chart,) = study(tmp_path).charts
    same = [replace(cell, x=x, series=series, summaries=(replace(SUMMARY, mta=0.75, asr=1.0),))
            for cell in chart.cells[:1] for x in "abcde" for series in "123"]  # fmt: skip
    figure = charts.study_figure(replace(study(tmp_path), charts=(replace(chart, cells=tuple(same)),)), "a")
    for axes in figure.axes:
        found = boxes(figure, axes)
        assert len(found) == 15
        assert not [pair for pair in itertools.combinations(found, 2) if pair[0].overlaps(pair[1])]


@pytest.mark.parametrize("mta", [0.75, 0.77, 0.771, 0.79])
def test_no_number_is_struck_through_by_the_line_of_the_starting_model(tmp_path, mta):
    (chart,) = study(tmp_path, ("dba",), ("fedavg", "krum")).charts
    cells = tuple(replace(c, summaries=(replace(SUMMARY, baseline_mta=0.77, mta=mta, asr=mta),)) for c in chart.cells)
    figure = charts.study_figure(replace(study(tmp_path), charts=(replace(chart, cells=cells),)), "a")
    (axes,) = figure.axes
    found = boxes(figure, axes)
    line = axes.transData.transform((0, 0.77))[1]
    assert len(found) == 4 and not [box for box in found if box.y0 < line < box.y1]


def test_no_number_lies_on_a_single_run(tmp_path):
    (chart,) = study(tmp_path, ("dba",), ("fedavg", "krum")).charts
    cells = tuple(replace(c, summaries=(replace(SUMMARY, mta=0.5, asr=0.3),) * 3) for c in chart.cells)
    figure = charts.study_figure(replace(study(tmp_path), charts=(replace(chart, cells=cells),)), "a")
    (axes,) = figure.axes
    dots = [
        axes.transData.transform(point)
        for line in axes.lines
        if line.get_marker() == "."
        for point in line.get_xydata()
    ]
    found = boxes(figure, axes)
    assert len(dots) == 12 and not [
        box for box in found for x, y in dots if box.x0 - 3 < x < box.x1 + 3 and box.y0 < y < box.y1
    ]


def test_each_setting_is_a_point_of_mta_and_asr_with_its_name(tmp_path):
    axes = charts.study_figure(study(tmp_path), "a_trade").axes[0]
    assert sorted(texts(axes)) == sorted(f"{r} / {a}" for a in ("dba", "blend") for r in ("fedavg", "krum", "median"))
    points = sorted((line.get_ydata()[0], line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "o")
    assert [asr for asr, _ in points] == pytest.approx([(n + 0.5) / 10 for n in range(6)])
    assert [mta for _, mta in points] == pytest.approx([0.9 - n / 20 for n in range(6)])


def test_one_setting_that_varies_makes_no_heat_map_and_one_run_no_scatter(tmp_path):
    one = study(tmp_path, attacks=("dba",))
    assert charts.draw_charts(tmp_path, one)[0].stem == "a"
    with pytest.raises(UserError, match="known: a, a_trade"):
        charts.study_figure(one, "a_grid")


def test_a_run_is_headed_by_what_was_run_and_old_records_words_go_where_they_are_false():
    shipped = load_scenario("blend")
    assert own_words(shipped) == shipped.description != ""
    assert own_words(shipped.changed(strategy="krum")) == own_words(shipped.changed(attack="sig")) == ""
    assert own_words(Experiment(scenario="mine", description="Mine")) == "Mine"
    summary = replace(SUMMARY, attack="sig", strategy="krum", dataset="digits")
    assert (
        run_title(summary, Experiment(attack="sig", malicious=1, model="cnn"))
        == "SIG by 1 of 6 clients, against Krum, on digits (CNN)"
    )
    assert run_title(replace(SUMMARY, attack="")) and STYLE["text.parse_math"] is False
