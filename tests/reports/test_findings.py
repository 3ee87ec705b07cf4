"""What stands over figures: only what the numbers say."""

from dataclasses import replace

import pytest

from oleander.experiment.classes import ClassCounts
from oleander.experiment.study import Runs
from oleander.reports import findings
from oleander.settings.plan import Chart, Published
from tests.experiment.test_records import ROUND, START, SUMMARY


def course(*scores):
    return [replace(START, round=number, mta=mta, asr=asr) for number, (mta, asr) in enumerate(scores)]


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([(0.98, 0.0), (0.41, 0.2), (0.96, 0.9), (0.98, 0.95)],
         "ASR rises from 0.0 % to 95.0 % (90.0 % by round 2); MTA stays at 98.0 %, with a low of 41.0 % in round 1"),
        ([(0.9, 0.1), (0.9, 0.8), (0.9, 0.1)], "ASR stays at 10.0 %, with a peak of 80.0 % in round 1; MTA stays at 90.0 %"),
        ([(0.9, None), (0.5, None)], "MTA falls from 90.0 % to 50.0 %"),
        ([(0.9, 0.5), (None, None), (0.89, 0.1)], "ASR falls from 50.0 % to 10.0 %; MTA ends at 89.0 % (90.0 % at first)"),
        ([(0.5, 0.1)], "ASR is 10.0 %; MTA is 50.0 %"),
    ],
)  # fmt: skip
def test_a_course_is_told_by_its_ends_and_by_what_lies_beyond_them(scores, said):
    assert findings.of_scores(course(*scores)) == said


def test_norms_and_cosines_are_told_by_who_sent_them():
    record = replace(ROUND, norms_before=[9.0, 2.0, 4.0], norms_after=[2.0, 2.0, 4.0], cosines=[0.9, 0.1, None])
    said = findings.of_norms([record])
    assert said.startswith("Malicious updates are 3.0 times as long") and "after the defence 2.00 against 3.00" in said
    assert findings.of_cosines([record]).startswith("The aggregate follows the malicious updates")
    assert findings.of_cosines([replace(record, cosines=[0.1, 0.9, 0.9])]).startswith(
        "The aggregate follows the benign"
    )
    honest = replace(record, malicious=[False] * 3)
    assert findings.of_norms([honest]) == "The median norm of benign updates is 4.00"
    assert findings.of_cosines([replace(record, cosines=[])]) == ""


def test_the_norms_of_several_settings_are_compared_within_each():
    before = replace(ROUND, norms_before=[9.0, 2.0, 4.0], norms_after=[9.0, 2.0, 4.0])
    clipped = replace(before, norms_after=[3.0, 2.0, 4.0])
    told = findings.of_norms_by_setting
    assert told({"FedAvg": [before], "clip": [clipped]}) == (
        "Malicious updates are 3.0 times as long as benign ones as sent; after the defence 3.0 times (FedAvg) and 1.0 times (clip)"
    )
    assert told({"a": [before], "b": [before]}) == "Malicious updates are 3.0 times as long as benign ones as sent"
    scaled = replace(before, norms_before=[18.0, 2.0, 4.0])
    four = {"a": [before], "b": [before], "c": [clipped], "d": [scaled]}
    assert (
        told(four)
        == "Malicious updates are 3.0 to 6.0 times as long as benign ones as sent; after the defence 1.0 to 3.0 times"
    )
    assert told({"a": [before]}) == findings.of_norms([before])
    long = replace(before, norms_before=[775.0, 2.0, 4.0])
    assert told({"a": [before], "b": [long]}) == (
        "Malicious updates are 3.0 times (a) and 260 times (b) as long as benign ones as sent; after the defence 3.0 times"
    )
    assert "are 260 times as long" in findings.of_norms([long])
    honest = replace(before, malicious=[False] * 3)
    assert told({"a": [before], "b": [honest]}) == findings.of_norms([before, honest])


def test_settings_are_told_by_the_lowest_and_the_highest():
    runs = {
        name: replace(SUMMARY, mta=mta, asr=asr)
        for name, mta, asr in (("a", 0.9, 0.1), ("b", 0.9, 0.8), ("c", 0.5, 0.1))
    }
    chart = of_cells("strategy", "attack", *((name, "s", [summary]) for name, summary in runs.items()))
    assert findings.of_settings(chart) == (
        "ASR is lowest with a / s and c / s (10.0 %) and highest with b / s (80.0 %); "
        "MTA is lowest with c / s (50.0 %) and highest with a / s and b / s (90.0 %)"
    )
    assert findings.of_trade(chart) == "Best MTA − ASR: a / s (MTA 90.0 %, ASR 10.0 %)"


def of_cells(x_title, series_title, *cells):
    runs = tuple(Runs(x, series, Published(), (), tuple(found)) for x, series, found in cells)
    return Chart("c", "t", x_title, series_title, False, False, False, runs)


def test_a_setting_whose_value_is_no_name_is_told_with_its_own():
    low, high = replace(SUMMARY, mta=0.9, asr=0.1), replace(SUMMARY, mta=0.9, asr=0.8)
    counted = of_cells("malicious clients", "augment", ("1", "once", [low]), ("3", "once", [high]))
    said = findings.of_settings(counted)
    assert "lowest with malicious clients 1 / augment once (10.0 %)" in said and "malicious clients 3" in said
    labelled = of_cells("aggregation", "my beta", ("FedAvg", "0.5", [low]), ("Krum (f = 1)", "2", [high]))
    assert "lowest with “FedAvg / my beta 0.5” (10.0 %)" in findings.of_settings(labelled)


@pytest.mark.parametrize(
    "labels",
    [("nothing", "not split: each stamps all", "values clamped"), ("Blend, 1", "Blend, 2", "DBA"), ("a; b", "c", "d")],
)
def test_labels_of_several_words_are_quoted_in_a_sentence_and_those_beside_them_too(labels):
    found = zip(labels, (0.1, 0.8, 0.8), strict=True)
    chart = of_cells("what is changed", "", *((x, "", [replace(SUMMARY, mta=0.9, asr=asr)]) for x, asr in found))
    first, *others = (f"“{label}”" for label in labels)
    said = (
        f"ASR is lowest with {first} (10.0 %) and highest with {' and '.join(others)} (80.0 %); MTA is 90.0 % in every"
    )
    assert findings.of_settings(chart).startswith(said)
    assert findings.of_trade(chart).startswith(f"Best MTA − ASR: {first} (MTA")


@pytest.mark.parametrize(
    ("mtas", "asrs", "said"),
    [
        ([0.98, 0.98, 0.98, 0.97], [0.0, 0.0, 1.0, 0.9], "Best MTA − ASR: a and b (MTA 98.0 %, ASR 0.0 %)"),
        ([0.98, 0.975, 0.98, 0.97], [0.0, 0.0, 0.004, 0.9],
         "Best MTA − ASR: a, b and c (MTA 97.5 to 98.0 %, ASR 0.0 to 0.4 %)"),
        ([0.98, 0.98, 0.98, 0.98], [0.0, 0.01, 0.0, 0.0],
         "MTA − ASR is about the same in all 4 settings (MTA 98.0 %, ASR 0.0 to 1.0 %)"),
        ([0.98, 0.98], [0.0, 0.0], "MTA − ASR is about the same in both settings (MTA 98.0 %, ASR 0.0 %)"),
        ([0.98] * 5, [0.0, 0.0, 0.0, 0.0, 0.9], "Best MTA − ASR: 4 of 5 settings (MTA 98.0 %, ASR 0.0 %)"),
    ],
)  # fmt: skip
def test_settings_that_do_about_equally_well_are_all_named_or_counted(mtas, asrs, said):
    runs = [(name, "", [replace(SUMMARY, mta=m, asr=a)]) for name, m, a in zip("abcde", mtas, asrs, strict=False)]
    chart = of_cells("strategy", "", *runs)
    assert findings.of_trade(chart) == said


def test_classes_that_are_known_equally_well_are_all_named_or_counted():
    counts = ClassCounts(list("abcd"), 0, [[1] * 4], [[2, 0, 0, 0, 0], [0, 2, 0, 0, 0], [1, 0, 1, 0, 0], [0, 0, 0, 2, 0]],
                         None, stamped=True)  # fmt: skip
    assert "50.0 % (class c) to 100.0 % (classes a, b and d)" in findings.of_classes(counts)
    same = replace(counts, clean=[[2, 0, 0, 0, 0], [0, 2, 0, 0, 0], [0, 0, 2, 0, 0], [0, 0, 0, 2, 0]])
    assert findings.of_classes(same) == "The final model is right on 100.0 % of each class's clean images"


def test_classes_victims_and_shards_are_counted():
    counts = ClassCounts(
        ["cat", "dog"], 0, [[3, 1], [0, 2], [2, 2]], [[8, 2, 0], [0, 10, 0]], [[0, 0, 0], [6, 2, 2]], stamped=True
    )
    assert "80.0 % (class cat) to 100.0 % (class dog)" in findings.of_classes(counts)
    assert findings.of_victims(counts) == (
        "Of 10 stamped images 60.0 % are answered “cat”, the target, and 20.0 % with their own class"
    )
    assert "Of 10 attacked" in findings.of_victims(replace(counts, stamped=False))
    assert (
        findings.of_shards(counts)
        == "In the median client 75.0 % of the images are of one class; it holds 2 of 2 classes"
    )
