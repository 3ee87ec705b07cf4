"""A study's folder: charts, results and report from its records; what is finished is kept, what was stopped goes on."""

import csv
import os
import re
import shutil
import signal
import statistics
import subprocess
import time
import tomllib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from PIL import Image

from oleander.experiment.prepare import Sources, prepare
from oleander.experiment.study import StudyFolder, read_study, run_key
from oleander.reports.caveats import counted, warnings_of
from oleander.reports.webpage import write_study_page
from oleander.settings.config import Experiment
from oleander.system.errors import UserError
from simulate import main
from tests.experiment.test_records import ROUND, START, SUMMARY
from tests.in_process import run_here
from tests.programs import DIGITS, ROOT, command, run, summary


def test_a_run_is_known_by_the_content_of_what_it_comes_from(image_folder, tmp_path):
    sources = Sources(lambda _: None)
    base = Experiment(dataset=f"folder:{image_folder}", samples_per_client=8, attack="blend", malicious=1)

    def key(**changes):
        return run_key(prepare(base.changed(**changes), sources))

    moved = tmp_path / "moved"
    shutil.copytree(image_folder, moved)
    assert key() == key(scenario="x", out="", actors=2, no_cache=True) == key(dataset=f"folder:{moved}")
    pictures = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for path, colour in zip(pictures, ("red", "red", "blue"), strict=True):
        Image.new("RGB", (8, 8), colour).save(path)
    a, b, c = (key(blend_image=str(path)) for path in pictures)
    assert a == b != c and a != key()
    assert key() == key(gamma=7.0) == key(clip_norm=2.0) != key(blend_alpha=0.4)  # of plug-ins, what is in use
    assert key() == key(round_timeout=7200.0) != key(on_bad_reply="drop")
    assert key(on_bad_reply="drop") != key(on_bad_reply="drop", round_timeout=7200.0)
    assert key() == key(shards_per_client=4) == key(classes_per_client=1)  # of their partitions
    assert key() != key(samples_per_client="4-8")
    assert len({key(partition="shards", shards_per_client=n) for n in (1, 2)}) == 2
    assert len({key(partition="pathological", classes_per_client=n) for n in (1, 2)}) == 2
    others = [key(seed=1), key(malicious=2), key(lr=0.1), key(precision="fp32"), key(precision="bf16")]
    assert len({*others, key()}) >= 5  # one of the precisions is what auto chose


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no study"):
        StudyFolder(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    first = StudyFolder(tmp_path / "new")
    with pytest.raises(UserError, match="another process"):
        StudyFolder(tmp_path / "new")
    first.release()


WARNED = [
    ({}, {}, "Toy data"),
    ({"dataset": "cifar10", "start": "a fresh model (x)"}, {}, "fresh model"),
    ({}, {}, "no number in 1 of 2 scored rounds"),
    ({"mta": 0.37}, {}, "lost more than half of its accuracy"),
    ({"strategy": "krum"}, {"assumed_malicious": 0}, "f = 0"),
    ({"strategy": "krum"}, {"assumed_malicious": 1, "two": True}, "up to 2 attackers"),
    ({"strategy": "median"}, {"two": True}, "half of the clients"),
    ({}, {"attack": "blend+scaling", "gamma": 2.0, "malicious": 1}, "γ = 2, not n/µ = 5"),
    (
        {},
        {"attack": "blend+scaling", "samples_per_client": "100-600", "malicious": 1},
        "Clients have unequal numbers of images",
    ),
    ({}, {"attack": "blend+scaling", "partition": "writers", "malicious": 1}, "Clients have unequal numbers of images"),
    (
        {},
        {"attack": "blend+scaling", "clients": 100, "malicious": 20, "clients_per_round": 10},
        "γ = n/µ = 0.5: more attackers",
    ),
    ({}, {"attack": "patch+alie", "alie_knows": "all", "malicious": 2}, "attackers of alie knew every client's update"),
    ({}, {"attack": "patch+mimic", "malicious": 2}, "attackers of mimic knew every client's update: no real attacker"),
    (
        {},
        {"attack": "min_sum", "malicious": 2},
        "attackers of min_sum knew every client's update (min_sum_knows = all)",
    ),
]


@pytest.mark.parametrize(("of_summary", "of_experiment", "words"), WARNED)
def test_what_weakens_a_result_is_said(of_summary, of_experiment, words):
    read = replace(ROUND, loss=None)  # NaN, as JSON keeps it
    record = replace(read, malicious=[True, True, False]) if of_experiment.pop("two", False) else read
    texts = warnings_of(
        Experiment().changed(**of_experiment), replace(SUMMARY, **of_summary), [START, record], {"commit": "a"}
    )
    assert any(words in text for text in texts), texts
    sound = replace(SUMMARY, dataset="cifar10", strategy="krum", start="the shipped checkpoint cifar10")
    clean = replace(ROUND, dropped=[], clamped_variances=0, loss=1.0)
    assert warnings_of(Experiment(), sound, [START, clean], {"commit": "a"}) == []


def test_warnings_of_several_runs_are_said_once_with_their_number():
    assert counted([["a", "b"], ["a"]]) == ["a", "b (1 of 2 runs)"]
    assert counted([["9 of 5.5", "b"], ["10 of 5.5"], ["c"]]) == [
        "9 to 10 of 5.5 (2 of 3 runs)",
        "b (1 of 3 runs)",
        "c (1 of 3 runs)",
    ]


# ---- end to end ------------------------------------------------------------------------------------------------------

STUDY = [*DIGITS, "--rounds", "3"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two strategies with two seeds each, killed in the middle and started again."""
    out = tmp_path_factory.mktemp("studies") / "study"
    flags = [
        *STUDY,
        "--sweep",
        "strategy=fedavg,clip+krum",
        "--repeats",
        2,
        "--out",
        out,
    ]
    process = subprocess.Popen(command(*flags), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 150
    while len(list(out.glob("runs/*/summary.json"))) < 1:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    kept = {p: p.stat().st_mtime_ns for p in out.glob("runs/*/summary.json")}
    assert 1 <= len(kept) < 4
    printed = run(*flags)
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
    return out, printed, flags


def test_a_study_that_was_killed_keeps_what_is_finished_and_goes_on(study):
    out, printed, _ = study
    assert re.search(r"4 runs, \d of them finished before", printed.stdout)
    assert re.search(r"run 4/4 +MTA +\d+\.\d %.*strategy \S+, seed 1", printed.stdout)
    assert re.search(r"clip\+krum +│ +2 │ +\d+\.\d (\(\d+\.\d–\d+\.\d\)|\(all 2 alike\))", printed.stdout)
    assert len(list(out.glob("runs/*/summary.json"))) == 4


def test_results_csv_has_a_row_a_run_that_the_summaries_bear_out(study):
    out, *_ = study
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert [(row["strategy"], row["seed"]) for row in rows] == [
        ("fedavg", "0"), ("clip+krum", "0"), ("fedavg", "1"), ("clip+krum", "1"),
    ]  # fmt: skip
    assert len({row["model_sha256"] for row in rows}) == 4  # another seed is another model, and so is another strategy
    for row in rows:
        found = summary(out / row["folder"])
        assert (float(row["mta"]), row["model_sha256"]) == (found["mta"], found["model_sha256"])
    result = read_study(out)
    mean = result.charts[0].cells[0].mta()
    assert mean.mean == pytest.approx(statistics.fmean(float(r["mta"]) for r in rows if r["strategy"] == "fedavg"))


def test_a_run_of_a_study_is_the_run_it_would_be_alone(study, tmp_path, task):
    out, *_ = study
    alone = next(out.glob("runs/*clip+krum*s1*"))
    run_here("--scenario", alone / "config.toml", out=tmp_path / "alone")
    assert summary(tmp_path / "alone")["model_sha256"] == summary(alone)["model_sha256"]


def test_run_again_it_is_done_at_once_and_says_the_same(study, capfd, same_environment):
    out, printed, flags = study
    before = {p: p.stat().st_mtime_ns for p in out.glob("runs/*/*.json*")}
    assert main([*map(str, flags)]) == 0
    again = capfd.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in out.glob("runs/*/*.json*")} == before
    assert "run 4/4" not in again
    assert printed.stdout[printed.stdout.index("dba: ") :] == again[again.index("dba: ") :]


@pytest.mark.network
def test_runs_of_a_study_may_differ_in_their_number_of_clients(tmp_path):
    run(*STUDY, "--sweep", "clients=7,6", "--out", tmp_path / "study")
    sizes = [tomllib.loads(path.read_text())["clients"] for path in tmp_path.glob("study/runs/*/config.toml")]
    assert sorted(sizes) == [6, 7] and len(list(tmp_path.glob("study/runs/*/summary.json"))) == 2


def test_one_impossible_setting_refuses_the_whole_study(tmp_path, capfd, same_environment):
    flags = [*STUDY, "--out", str(tmp_path / "out")]
    assert main([*flags, "--strategy", "krum", "--sweep", "clients_per_round=6,4"]) == 2
    said = capfd.readouterr().err
    assert "n = 4" in said and "4 a round" in said
    assert not (tmp_path / "out").exists()


class Page(HTMLParser):
    """Checks that tags are closed in order, and collects what a browser would fetch."""

    VOID = ("meta", "br", "img", "link", "input", "hr")

    def __init__(self) -> None:
        super().__init__()
        self.open, self.fetched, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        named = dict(attrs)
        fetching = [
            named.get("src"),
            named.get("xlink:href") if tag != "a" else None,
            named.get("href") if tag == "link" else None,
        ]
        self.fetched += [url for url in fetching if url and not url.startswith(("#", "data:"))]

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_data(self, data):
        self.text.append(data)


def pages(out: Path) -> list[Path]:
    return [out / "report.html", *out.glob("runs/*/report.html")]


def test_reports_are_whole_and_need_no_network(study):
    out, *_ = study
    assert len(pages(out)) == 5
    for path in pages(out):
        text = path.read_text()
        page = Page()
        page.feed(text)
        assert not page.open and not page.fetched
        assert "url(http" not in text and "@import" not in text and "<script" not in text
        shown = " ".join(" ".join(page.text).split())
        for words in (
            "Before you believe",
            "MTA",
            "python",
            "attacker 0",
            "clip+krum" if path.parent == out else "sha256",
        ):
            assert words in shown, (path, words)
        assert text.count("<svg") >= 2
    ids = re.findall(r'href="#([^"]+)"', (out / "report.html").read_text())
    assert all(f'id="{name}"' in (out / "report.html").read_text() for name in ids)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 500])
def test_reports_render_in_a_browser(study, tmp_path, scheme, width):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    out, *_ = study
    for number, path in enumerate(pages(out)[:2]):
        shot = tmp_path / f"{number}.png"
        dark = (
            ["--blink-settings=preferredColorScheme=0"]
            if scheme == "dark"
            else ["--blink-settings=preferredColorScheme=1"]
        )
        subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *dark, f"--user-data-dir={tmp_path}/b",
             f"--window-size={width},2400", f"--screenshot={shot}", path.as_uri()],
            check=True, capture_output=True, timeout=120, env=os.environ | {"HOME": str(tmp_path)},
        )  # fmt: skip
        pixels = np.asarray(Image.open(shot).convert("L"), dtype=float)
        assert (pixels.mean() > 200) == (scheme == "light")
        rows = pixels.std(axis=1) > 2
        assert rows.mean() > 0.3  # a page full, not a blank one
        assert pixels[:, -4:].std() < 2  # nothing runs over the right edge


def test_a_studys_page_says_in_what_its_runs_differ(study, tmp_path):
    """Beside the settings that have a column in every study, those that are varied in this one."""
    out, *_ = study
    copied = tmp_path / "copy"
    shutil.copytree(out, copied)
    assert "augment epoch" not in write_study_page(copied, read_study(copied)).read_text()
    changed = next(copied.glob("runs/*s1*"))
    config = tomllib.loads((changed / "config.toml").read_text()) | {"augment": "epoch"}
    (changed / "config.toml").write_text(tomli_w.dumps(config))
    page = write_study_page(copied, read_study(copied)).read_text()
    assert '<th class="left">augment</th>' in page and page.count('<td class="left">epoch</td>') == 1
    assert len(re.findall("<summary>.*, augment epoch, seed 1", page)) == 1


def test_a_study_reads_back_without_the_runs_that_are_missing(study, tmp_path):
    out, *_ = study
    copied = tmp_path / "copy"
    shutil.copytree(out, copied)
    shutil.rmtree(next(copied.glob("runs/*s1*")))
    assert sum(len(cell.summaries) for cell in read_study(copied).charts[0].cells) == 3
    (copied / "study.json").write_text("{")
    with pytest.raises(UserError, match="holds no study"):
        read_study(copied)
