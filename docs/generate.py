"""What the program says of itself, as Markdown: README's table of attacks and defences, and the site's reference pages.

It reads the plug-ins' files and the settings as ``--list`` and ``--help`` do, and imports none of the plug-ins (PyTorch would take
seconds). ``python docs/generate.py`` writes README's table anew; a test fails while it is out of date.
"""

import ast
import html
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that this checkout is described, whatever is installed

from oleander.settings.cli import Flags, known_scenarios, load_scenario_file  # noqa: E402
from oleander.settings.config import SHARED, Experiment, shown_value  # noqa: E402
from oleander.settings.declared import (  # noqa: E402
    DATASETS,
    FLAGS,
    KNOWLEDGE,
    MODELS,
    Declaration,
    built_in,
    declaration,
    shown_source,
)
from oleander.settings.help import GROUPS, docs_of, docs_of_settings  # noqa: E402
from oleander.settings.kinds import kind_in  # noqa: E402
from oleander.settings.protocol import protocol_in  # noqa: E402
from oleander.settings.threats import ATTACKERS_KNOW, DEFENCES_NEED, known_besides, needed_besides  # noqa: E402
from oleander.settings.words import range_words  # noqa: E402

README = ROOT / "README.md"
BEGIN, END = "<!-- plug-ins: written by `python docs/generate.py` -->", "<!-- plug-ins: end -->"
KINDS = ("rule", "filter", "finish", "repair")
CITED = re.compile(r"\s*\(([^()]*[^\W\d_][^()]*\b(?:19|20)\d\d\b[^()]*)\)(?!.*\b(?:19|20)\d\d\b)")
PAPERS = {
    re.compile(r"arXiv\s+(\d{4}\.\d{4,5})"): "https://arxiv.org/abs/{}",
    re.compile(r"doi\s+(10\.\d{4,}/[\w./-]*\w)"): "https://doi.org/{}",
    re.compile(r"OpenReview\s+(\w+)"): "https://openreview.net/forum?id={}",
}
"""How a file names its paper → where that is to be read."""


def plugins(package: str) -> list[Declaration]:
    """The plug-ins of one package, by name."""
    return [declaration(package, name) for name in built_in(package)]


def kind(found: Declaration) -> str:
    """``rule``, ``filter``, ``finish``, ``attack step`` …"""
    return kind_in(found.source, found.package, found.name) or FLAGS[found.package]


def about(found: Declaration) -> str:
    """What a plug-in's file says at its top."""
    return ast.get_docstring(ast.parse(found.source)) or ""


def papers(text: str) -> list[str]:
    """The addresses of the papers that a text names, in its order."""
    found = [(match.start(), link.format(match[1])) for name, link in PAPERS.items() for match in name.finditer(text)]
    return list(dict.fromkeys(link for _, link in sorted(found)))


def summary(found: Declaration) -> tuple[str, str]:
    """What a plug-in does, in a line, and its paper as a link (– without one)."""
    cited = CITED.search(found.summary)
    if not cited:
        return found.summary.rstrip(".") + ".", "–"
    remark, _, paper = cited[1].rpartition("; ")
    said = found.summary[: cited.start()] + (f" ({remark})" if remark else "") + found.summary[cited.end() :]
    links = papers(about(found))
    return said.rstrip(".") + ".", f"[{paper}]({links[0]})" if links else paper


def readme_table() -> str:
    """README's two tables: every attack, and every step of a defence; what each knows or needs besides what all do."""
    attacks = [(f"`{p.name}`", cell(summary(p)[0]), known_besides(p) or "–", summary(p)[1]) for p in plugins("attacks")]
    steps = sorted([*plugins("strategies"), *plugins("repairs")], key=lambda p: KINDS.index(kind(p)))
    defences = [
        (f"`{p.name}`", kind(p), cell(summary(p)[0]), ", ".join(needed_besides(p)) or "–", summary(p)[1]) for p in steps
    ]
    return "\n\n".join(
        (
            f"Attackers know {ATTACKERS_KNOW}, and what stands under *knows*.\n"
            f"The server needs {DEFENCES_NEED}, and what stands under *needs*.",
            table(("`--attack`", "what it does", "knows", "paper"), attacks),
            table(("`--strategy`, `--repair`", "kind", "what it does", "needs", "paper"), defences),
        )
    )


def with_table(text: str) -> str:
    """README with its table as it is to be."""
    before, begin, rest = text.partition(BEGIN)
    assert begin and END in rest, "README has lost the marks between which its table stands"
    return f"{before}{BEGIN}\n\n{readme_table()}\n\n{END}{rest.partition(END)[2]}"


def pages() -> dict[str, str]:
    """Path on the site → Markdown of each page that the program itself writes."""
    return {
        "reference/attacks.md": _page("Attacks", "attacks", ATTACKS),
        "reference/defences.md": _page("Defences", "strategies", DEFENCES) + _page("", "repairs", REPAIRS),
        "reference/models.md": _page("Models", MODELS, MODELS_INTRO),
        "reference/datasets.md": _page("Datasets", DATASETS, DATASETS_INTRO),
        "reference/settings.md": _settings(),
        "reference/scenarios.md": _scenarios(),
    }


ATTACKS = """\
Joined by `+` and carried out from left to right: `--attack blend+scaling`. This page is made from the files in `attacks/`;
`python simulate.py --list NAME` prints the same. The exact formulas are in the [definitions](../definitions.md#attacks).
"""
DEFENCES = """\
A strategy is any number of filters, then one rule (`fedavg` if none is named), then any number of finishes, joined by `+`:
`--strategy clip+krum+noise`. A *filter* changes or drops updates, a *rule* aggregates them, a *finish* changes the aggregate.
This page is made from the files in `strategies/` and `repairs/`. The exact formulas are in the
[definitions](../definitions.md#rules).
"""
REPAIRS = """## Repairs

A repair changes the final model, after the last round: `--repair finetune`."""
MODELS_INTRO = """\
`--model NAME`, or [a file of your own](../howto/own-model.md). `--norm group` replaces every batch norm by group norm. Besides
these, `--model torchvision:NAME` takes a classification model of torchvision's (`torchvision:resnet50`), untrained and fitted to
the images.
"""
DATASETS_INTRO = """\
`--dataset NAME`, or [a file of your own](../howto/own-dataset.md). The default, `auto`, is CIFAR-10 if it is on disk or can be
downloaded, and otherwise `digits`, which a notice says. Image counts and normalisation are in the
[definitions](../definitions.md#datasets).
"""


def _page(title: str, package: str, intro: str) -> str:
    ordered = sorted(plugins(package), key=lambda p: KINDS.index(kind(p)) if kind(p) in KINDS else 0)
    return "\n\n".join([*([f"# {title}"] if title else []), intro, *map(_entry, ordered)]) + "\n\n"


def _entry(found: Declaration) -> str:
    named = shown_source(found.name) if found.package == DATASETS else found.name
    parts = [
        f"## `{named}`",
        f"*{kind(found)}*, `--{FLAGS[found.package]} {named}`. {escaped(found.summary)}",
        escaped(about(found).partition("\n\n")[2]),
    ]
    rows = [
        (f"`--{s.name.replace('_', '-')}`", cell(s.help), shown(s.default), range_words(s.type))
        for s in found.settings if not s.hidden
    ]  # fmt: skip
    parts += [table(("setting", "meaning", "default", "values"), rows)] if rows else []
    if found.package == DATASETS and (protocol := protocol_in(found)):
        flags = " ".join(f"--{name.replace('_', '-')} {shown_value(value)}" for name, value in protocol.items())
        parts += [f"Unless a scenario or a flag says otherwise, it is used with `{flags}`."]
    return "\n\n".join([*parts, *_uses(found), *_links(found)])


def _uses(found: Declaration) -> Iterator[str]:
    """What a plug-in asks for by name, beside its own settings: shared settings, and what the server knows."""
    known = KNOWLEDGE[found.package]
    if flags := [f"`--{name.replace('_', '-')}`" for name in found.asks if name not in known]:
        yield f"It also uses {', '.join(flags)}."
    if given := [f"`{name}`" for name in found.asks if name in known]:
        where = (
            "../../CONTRIBUTING.md#add-a-repair"
            if found.package == "repairs"
            else "../../CONTRIBUTING.md#add-a-defence"
        )
        yield f"Beside settings it is given {', '.join(given)}: [Contributing]({where}) explains it."


def _links(found: Declaration) -> Iterator[str]:
    if links := papers(about(found)):
        yield "Papers: " + ", ".join(f"[{link.removeprefix('https://')}]({link})" for link in links)


def _settings() -> str:
    types = {field.name: field.type for field in fields(Experiment)}
    parts = [
        "# Settings",
        "Every setting is a flag of `simulate.py` and `server.py`, a key of scenario files and of `config.toml`, and a keyword of "
        "`run()` and `study()`: `--batch-size 32`, `batch_size = 32`. This page is made from the program; `--help` prints the same. "
        "Settings of a single attack, defence or dataset are on [its](attacks.md) [own](defences.md) [page](datasets.md).",
        "## Flags of the command line alone",
        table(
            ("flag", "meaning"),
            [(f"`--{n.replace('_', '-')}`", cell(t)) for n, t in docs_of(Flags).items() if n in COMMAND],
        ),
    ]
    for title, names in GROUPS.items():
        rows = [
            (f"`--{n.replace('_', '-')}`", cell(docs_of_settings()[n]), shown(SHARED[n]), range_words(types[n]))
            for n in names
        ]
        parts += [f"## {title.capitalize()}", table(("setting", "meaning", "default", "values"), rows)]
    return "\n\n".join(parts) + "\n"


COMMAND = tuple(field.name for field in fields(Flags) if field.name != "experiment")


def _scenarios() -> str:
    parts = [
        "# Scenarios",
        "A scenario is a TOML file that states only its differences from the [default settings](settings.md). `--scenario NAME` "
        "runs one of these, `--scenario my.toml` one of yours; flags on the command line override both. A study runs several "
        "settings, with several seeds each.",
    ]
    found = {name: load_scenario_file(name) for name in known_scenarios()}
    for title, studies in (("Single runs", False), ("Studies", True)):
        parts.append(f"## {title}")
        for name, scenario in found.items():
            if bool(scenario.study) == studies:
                text = known_scenarios()[name].read_text(encoding="utf-8").strip()
                parts += [f"### `{name}`", escaped(scenario.experiment.description), f"```toml\n{text}\n```"]
    return "\n\n".join(parts) + "\n"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = tuple(head)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def shown(default: Any) -> str:
    """A default, as it stands on a command line."""
    return {None: "none", "": "empty"}.get(default, f"`{shown_value(default)}`") if isinstance(default, str | None) else (
        f"`{shown_value(default)}`"
    )  # fmt: skip


def escaped(text: str) -> str:
    """Text in which < and > outside of code are themselves."""
    return "".join(part if part.startswith("`") else html.escape(part, quote=False) for part in CODE.split(text))


FLAG = re.compile(r"(?<![\w-])(--[a-z][a-z-]*[a-z])")
CODE = re.compile(r"(``.+?``|`[^`]+`)", re.S)


def cell(text: str) -> str:
    """Text of a table's cell; flags are code."""
    text = "".join(part if part.startswith("`") else FLAG.sub(r"`\1`", part) for part in CODE.split(text))
    return re.sub(r"(?<!`)\*(?!`)", r"\\*", escaped(" ".join(text.split()))).replace("|", r"\|")


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
