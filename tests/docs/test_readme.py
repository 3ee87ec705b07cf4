"""README: short, true of what there is, and the first command's output is what the program prints."""

import re
import sys
import tomllib

import pytest

from oleander.settings.declared import built_in
from tests.programs import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PROSE = "\n".join(line for line in README.splitlines() if not line.lstrip().startswith("|"))
"""Without its tables."""


@pytest.fixture(scope="module")
def generate():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import generate

        return generate
    finally:
        sys.path.remove(str(ROOT / "docs"))


def test_it_has_at_most_1100_words_tables_not_counted():
    assert 300 < len(PROSE.split()) <= 1100


def test_its_table_of_attacks_and_defences_is_what_their_files_say(generate):
    assert generate.with_table(README) == README, "python docs/generate.py writes it anew"
    named = set(re.findall(r"^\| `(\w+)` \|", README.partition(generate.BEGIN)[2].partition(generate.END)[0], re.M))
    assert named == {name for package in ("attacks", "strategies", "repairs") for name in built_in(package)}


def test_every_attack_and_defence_that_cites_a_paper_links_to_it(generate):
    for package in ("attacks", "strategies", "repairs"):
        for plugin in generate.plugins(package):
            said, paper = generate.summary(plugin)
            cites = re.search(r"\b(19|20)\d\d\b", plugin.summary)
            assert said and paper.startswith("[") == bool(cites), f"{plugin.name}: where is its paper to be read?"


def test_a_summary_is_split_into_what_is_done_and_its_paper(generate):
    of = generate.Declaration
    cited = of(
        "attacks", "x", "Scale by n/µ (see below) (Doe et al. 2020).", (), (), '"""X.\n\n(arXiv\n1234.56789)."""'
    )
    assert generate.summary(cited) == (
        "Scale by n/µ (see below).",
        "[Doe et al. 2020](https://arxiv.org/abs/1234.56789)",
    )
    behind = of("attacks", "x", "Flip it (Doe et al. 2020); untargeted.", (), (), '"""X (doi 10.1000/a.b.2)."""')
    assert generate.summary(behind) == ("Flip it; untargeted.", "[Doe et al. 2020](https://doi.org/10.1000/a.b.2)")
    remarked = of("attacks", "x", "Flip it (alone: all; Doe et al. 2020).", (), (), '"""X (arXiv 1234.56789)."""')
    assert (
        generate.summary(remarked)[0] == "Flip it (alone: all)."
        and "[Doe et al. 2020]" in generate.summary(remarked)[1]
    )
    plain = of("attacks", "x", "Move by x (1 - α).", (), (), '"""X."""')
    assert generate.summary(plain) == ("Move by x (1 - α).", "–")


def test_what_it_links_to_is_there():
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", README)
    assert len(links) > 15
    for link in links:
        assert (ROOT / link).exists(), link


def test_ci_runs_the_command_for_tests_that_it_names():
    command = re.search(r"## Tests\n+```bash\n(.+)\n```", README)[1]
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_its_scenarios_are_the_six_basic_ones():
    basic = tomllib.loads((ROOT / "scenarios" / "basics.toml").read_text(encoding="utf-8"))["include"]
    listed = README.partition("## The six scenarios")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", listed, re.M) == basic
