"""table.md and table.tex: what is in them, what is in bold, and that no name can be a command."""

import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from oleander.experiment.records import Repaired
from oleander.experiment.study import StudyResult
from oleander.reports.latex import escaped, label
from oleander.reports.paper import best_of, latex, markdown, write_tables
from tests.reports.test_differences import cell, chart
from tests.reports.test_foreign_text import HOSTILE

EVERY_SIGN = "".join(map(chr, range(32, 127)))
FOREIGN = [
    HOSTILE,
    EVERY_SIGN,
    "a--b---c,,d ?`!`",
    "größe µ γ → ∞ ‖Δ‖₂ 中文 🐢 e\u0301 Ł",
    "\\\\[2cm]",
    "[x] \\input{/etc/passwd} % & #1 $x^2$ ~",
]
BACK = {
    "\\textbackslash{}": "\\", "\\textasciicircum{}": "^", "\\textasciitilde{}": "~", "\\textless{}": "<",
    "\\textgreater{}": ">", "\\textbar{}": "|", "\\texttt{\\char34}": '"', "\\textquotesingle{}": "'",
    "\\textasciigrave{}": "`", "-{}": "-", ",{}": ",",
} | {f"\\{sign}": sign for sign in "{}$&#%_"}  # fmt: skip


def read_back(text):
    """What LaTeX prints of an escaped text of ASCII, by the meaning of each of its commands."""
    pattern = "|".join(re.escape(command) for command in sorted(BACK, key=len, reverse=True))
    assert not re.search(r"[\\{}$&#%_^~<>|\"'`]", re.sub(pattern, "", text)), text
    return re.sub(pattern, lambda found: BACK[found[0]], text)


def shown_chart(title="Krum"):
    """Three strategies under one attack; krum has the lower ASR, median the higher MTA."""
    return replace(
        chart(
            cell("fedavg", mta=0.9, asr=0.05),
            cell("krum", strategy="krum", mta=0.7, asr=0.1),
            cell("median", strategy="median", mta=0.8, asr=0.3),
            cell("broken", strategy="noise", mta=0.1, asr=0.0),
            cell("not run", strategy="rlr", seeds=()),
        ),
        title=title,
    )


def test_every_sign_of_a_name_is_escaped_and_reads_back():
    assert read_back(escaped(EVERY_SIGN)) == EVERY_SIGN
    assert read_back(escaped("a--b---c,,d")) == "a--b---c,,d" and "--" not in escaped("a--b---c")
    assert escaped("中🐢") == "[U+4E2D][U+1F422]" and escaped("e\u0301ß") == "éß"
    assert escaped("a\nb\x1b") and not re.search(r"[\n\x1b]", escaped("a\nb\x1b"))
    assert label("why_krum+ä") == "why-krum+ue4"


def test_the_best_of_the_defences_is_in_bold():
    study = shown_chart()
    named = {
        (study.cells[i].x, score) for i in range(5) for cell, score in best_of(study) if id(study.cells[i]) == cell
    }
    assert named == {("krum", "asr"), ("median", "mta")}
    text = markdown([study])
    assert re.search(
        r"^\| median \| 5 \| \*\*82\.0\*\* \[[\d., \\]+\] \| 36\.0 ", text.replace("\\[", "[").replace("\\]", "]"), re.M
    )
    assert text.count("**") == 4 and "| not run | 0 | – | – |" in text
    assert latex([study]).count("\\textbf{") == 2


def test_nothing_is_bold_where_no_defences_are_compared():
    assert not best_of(chart(cell("one"), cell("two", mta=0.9)))
    assert not best_of(chart(cell("a", strategy="krum", malicious=()), cell("b", strategy="median", malicious=())))


def test_equal_means_are_both_bold():
    both = chart(cell("a", strategy="krum"), cell("b", strategy="median"), cell("c"))
    assert len(best_of(both)) == 4


def test_a_table_has_a_row_a_setting_and_a_column_a_score():
    text = latex([shown_chart()])
    rows = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert len(rows) == 6 and all(row.startswith("{}") and row.count(" & ") == 3 for row in rows)
    assert text.index("\\toprule") < text.index("\\midrule") < text.index("\\bottomrule")
    robust = cell("krum", strategy="krum")
    robust = replace(robust, summaries=tuple(replace(s, robust_accuracy=0.5) for s in robust.summaries))
    assert "robust accuracy" in latex([chart(robust, cell("fedavg"))]) and "robust" not in text


def foreign_study():
    charts = tuple(
        replace(
            shown_chart(name),
            name=f"c{i}",
            x_title=name,
            series_title=name,
            cells=(cell(name, name), cell("x", name, "krum")),
        )
        for i, name in enumerate(FOREIGN)
    )
    return StudyResult(HOSTILE, HOSTILE, HOSTILE, 5, charts)


def test_no_name_is_a_command_of_markdown(tmp_path):
    write_tables(tmp_path, foreign_study())
    rows = [line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("| ")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 6 for row in rows)
    assert not re.search(r"(?<!\\)[<`]", "".join(rows))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX on this machine")
def test_the_tables_compile(tmp_path):
    write_tables(tmp_path, foreign_study())
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\input{table}\\end{document}"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"],
        cwd=tmp_path, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert b"Missing character" not in (tmp_path / "paper.log").read_bytes()


def repaired_cell(name, **told):
    made = cell(name, **told)
    runs = [replace(s, repaired=Repaired(0.6 + s.seed / 100, 0.2, 0.1, "a" * 64, 1.0)) for s in made.summaries]
    return replace(made, summaries=tuple(runs))


def test_a_study_with_repairs_has_their_scores_too_beside_those_of_the_final_models():
    text = markdown([chart(repaired_cell("nad"), cell("none"))])
    head, nad, none = (line for line in text.splitlines() if line.startswith("|") and "---" not in line)
    assert "| repaired MTA, % | repaired ASR, % |" in head and "voted" not in head
    assert nad.endswith("20.0 (all 5 alike) |") and none.endswith("| – | – |")
    assert "repaired" not in markdown([shown_chart()])


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX on this machine")
def test_a_table_of_attacks_and_defences_fits_the_width_of_an_article(tmp_path):
    cells = [cell("patch+scaling", series="clip+fedavg"), cell("dba", series="krum")]
    cells = [replace(c, summaries=tuple(replace(s, asr=1.0, robust_accuracy=0.0) for s in c.summaries)) for c in cells]
    (tmp_path / "table.tex").write_text(latex([replace(chart(*cells), series_title="strategy", x_title="attack")]))
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\input{table}\\end{document}"
    )
    subprocess.run(["pdflatex", "-interaction=nonstopmode", "paper.tex"], cwd=tmp_path, capture_output=True, check=True)
    assert b"Overfull" not in (tmp_path / "paper.log").read_bytes()
