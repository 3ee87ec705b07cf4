"""A run of ours against bare Flower, written as its quickstart is (``bare_flower.py``), both as whole processes from the shell.

Same shards, the attacker's poisoned one among them, same starting model, passes, batch size and evaluated images, in fp32. Everybody
trains in each round, since Flower draws its clients by itself. The ways are taken in turn, each repeat has the next seed. Flower's
images are decoded, augmented, stamped and normalised beforehand; ours are decoded, as they are from a machine's second run on.
Start-up is until the first client trains; evaluation of ours that training hid is part of training; aggregating is too.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from benchmarks.common import Spread, arguments, ratios, refuse, show, write
from benchmarks.plain_loop import trained_on
from benchmarks.scenario import PHASES, Peak, measures
from oleander.experiment.prepare import Setup, Sources, prepare
from oleander.experiment.recorder import drawn_rows
from oleander.learning.parameters import load_arrays
from oleander.models import build
from oleander.settings.cli import parse_command
from oleander.system.errors import UserError

ROOT = Path(__file__).parent.parent
ENVIRONMENT = os.environ | {"RAY_ADDRESS": "local", "RAY_USAGE_STATS_ENABLED": "0", "FLWR_TELEMETRY_ENABLED": "0"}
"""Of both: Flower alone would join whatever Ray runs on this machine, and wait for its clients' CPUs."""


def main() -> None:
    """Measure, print, write; exit 1 where the two do not come to the same."""
    told = arguments(
        __doc__, dataset=("digits", "as simulate.py's: digits, or folder:DIR"), scenario=("blend", "with a whole trigger"),
        rounds=(2, "rounds"), clients=(6, "clients, all of which train"), repeats=(3, "repeats, each with the next seed"),
        evaluate_images=("2000", "as simulate.py's"), client_cpus=([1.0], "of bare Flower's clients; its own default is 2"),
        eval_batch=(64, "bare Flower's evaluation batch"), apart=(5.0, "points of MTA that the two may differ by"),
        flags=("", "more of simulate.py's flags in one word: '--local-epochs 1'"),
    )  # fmt: skip
    everybody = ["--clients", str(told.clients), "--clients-per-round", str(told.clients)]
    flags = ["--scenario", told.scenario, "--dataset", told.dataset, "--rounds", str(told.rounds), *everybody]
    flags += ["--evaluate-images", told.evaluate_images, "--precision", "fp32", *told.flags.split()]
    ways = ["ours", *(f"bare Flower, {cpus:g} CPU a client" for cpus in told.client_cpus)]
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(told.repeats):
            work = Path(scratch) / f"work-{seed}"
            seeded = [*flags, "--seed", str(seed)]
            lay_out(prepared(seeded), work)
            asked = list(zip(ways, [None, *told.client_cpus], strict=True))
            for way, cpus in asked[:: -1 if seed % 2 else 1]:  # the first one meets colder files
                out = Path(scratch) / f"ours-{seed}"
                ran = ours(seeded, out) if cpus is None else flower(work, cpus, told.eval_batch)
                found[way].append(ran)
                print(way, seed, ran, flush=True)
    tell(f"{told.scenario} on {told.dataset.partition(':')[0]}, {told.rounds} rounds", found)
    write(told.json, measured=found)
    if wrong := differences(found, told.apart):
        raise SystemExit("not the same work, or not the same end:\n" + "\n".join(wrong))


def prepared(flags: list[str]) -> Setup:
    """The run, ready to start, of which the other gets the arrays; what bare Flower does not do is refused."""
    try:
        setup = prepare(parse_command(flags).flags.experiment, Sources(print))
    except UserError as error:
        refuse(str(error))
    attack, e = setup.attack, setup.experiment
    more = (
        attack.parts,
        attack.choose,
        attack.training,
        attack.tampers,
        attack.colludes,
        attack.omniscient,
        attack.victims,
    )
    if attack.trigger is None or any(more) or e.attack_rounds:
        rounds = e.attack_rounds or "all"
        refuse(
            f"--attack {e.attack}, --attack-rounds {rounds}: bare Flower only stamps images, in all rounds; wanted blend"
        )
    if setup.pipeline.name != "fedavg" or setup.repairs:
        refuse(f"--strategy {e.strategy}, --repair {e.repair}: bare Flower averages; wanted fedavg and none")
    if e.augment not in ("once", "none"):
        refuse(f"--augment {e.augment}: bare Flower's images are augmented beforehand; wanted once or none")
    return setup


def lay_out(setup: Setup, folder: Path) -> None:
    """Write what ``bare_flower.py`` works on."""
    e, data, trigger, normalise = setup.experiment, setup.dataset, setup.attack.trigger, setup.dataset.image.normalise
    assert trigger is not None
    folder.mkdir()

    def save(name: str, pixels: torch.Tensor, labels: Any) -> None:
        np.savez(folder / name, inputs=normalise(pixels).contiguous().numpy(), labels=np.asarray(labels))

    for client in range(e.clients):
        save(f"client-{client}.npz", *trained_on(client, data, e, trigger))
    pixels, truth = torch.from_numpy(np.array(data.test_images)).float() / 255, np.asarray(data.test_labels)
    others = truth != setup.target
    save("clean.npz", pixels, truth)
    save("stamped.npz", trigger(pixels[others]), np.full(others.sum(), setup.target))
    model = build(e.model, len(data.classes), data.image, e.norm)
    load_arrays(model, setup.layout.unflatten(setup.start.state))
    torch.save(model.state_dict(), folder / "start.pt")
    rows = drawn_rows(len(truth), e)
    rows = np.arange(len(truth)) if rows is None else rows
    place = np.cumsum(others) - 1  # of a test image among the stamped ones
    names = ("clients", "rounds", "local_epochs", "batch_size", "lr", "momentum", "weight_decay", "model", "norm")
    work = {name: getattr(e, name) for name in names} | {
        "classes": len(data.classes),
        "image": dataclasses.asdict(data.image),
    }
    work |= {"rows": rows.tolist(), "victims": place[rows[others[rows]]].tolist()}
    (folder / "work.json").write_text(json.dumps(work))


def ours(flags: list[str], out: Path) -> dict[str, Any]:
    """One run of ours from the shell, which also scores its starting model, as the other does."""
    seconds, memory, _ = whole([str(ROOT / "simulate.py"), *flags, "--no-cache", "--out", str(out)])
    summary = json.loads((out / "summary.json").read_text())
    records = [json.loads(line) for line in (out / "rounds.jsonl").read_text().splitlines()]
    phases = {name: summary["seconds"][name] for name in ("startup", "train", "evaluate")}
    phases["train"] += summary["seconds"]["aggregate"]
    scored = [[record["scored_images"], record["scored_victims"]] for record in records]
    return told_of(seconds, memory, phases, summary, [record["images"] for record in records[1:]], scored)


def flower(work: Path, client_cpus: float, batch: int) -> dict[str, Any]:
    """One run of bare Flower from the shell."""
    flags = [str(work), "--client-cpus", str(client_cpus), "--eval-batch", str(batch)]
    seconds, memory, printed = whole(["-m", "benchmarks.bare_flower", *flags])
    said = json.loads(printed.splitlines()[-1])
    phases = {name: said[name] for name in ("startup", "train", "evaluate")}
    return told_of(
        seconds, memory, phases, said["scores"][-1], said["images"], [one["scored"] for one in said["scores"]]
    )


def told_of(
    seconds: float,
    memory: float,
    phases: dict[str, float],
    last: dict[str, Any],
    images: list[int],
    scored: list[list[int]],
) -> dict[str, Any]:
    """What is kept of a run: its phases, scores, and how much work it was."""
    other = seconds - sum(phases.values())
    kept = {"seconds": seconds, **phases, "other": other, "gigabytes": memory, "mta": last["mta"], "asr": last["asr"]}
    return kept | {"images": images, "scored": scored}


def whole(program: list[str]) -> tuple[float, float, str]:
    """One process from start to end: its seconds, peak memory in GB with all its children, and what it printed."""
    began = time.perf_counter()
    process = psutil.Popen(
        [sys.executable, *program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=ENVIRONMENT
    )  # fmt: skip
    peak = Peak(process)
    printed, said = process.communicate()
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"{' '.join(program)} ended with {process.returncode}:\n{said[-3000:]}")
    return seconds, peak.end() / 1e9, printed


def tell(title: str, found: dict[str, list[dict[str, Any]]]) -> None:
    """Print both tables: seconds, and how many times ours the others take."""
    rows = [
        [way, *measures(runs),
         *(points([run[score] for run in runs]) for score in ("mta", "asr"))]
        for way, runs in found.items()
    ]  # fmt: skip
    show(title, ("way", "whole s", "start-up", "train", "evaluate", "other", "GB", "MTA %", "ASR %"), rows)
    mine = found["ours"]
    times = [
        [way, *(ratios([run[phase] for run in runs], [run[phase] for run in mine]) for phase in PHASES[:4])]
        for way, runs in found.items() if way != "ours"
    ]  # fmt: skip
    show("… over ours, repeat by repeat", ("way", "whole", "start-up", "train", "evaluate"), times)


def points(shares: list[float]) -> str:
    """In per cent, to a tenth."""
    spread = Spread.of([100 * share for share in shares])
    return f"{spread.median:.1f} ({spread.low:.1f}-{spread.high:.1f})"


def differences(found: dict[str, list[dict[str, Any]]], apart: float) -> list[str]:
    """Where another did other work than ours, or came to an MTA that is further from ours than so many points."""
    wrong = []
    for way, runs in found.items():
        for seed, (run, mine) in enumerate(zip(runs, found["ours"], strict=True)):
            for what in ("images", "scored"):
                if run[what] != mine[what]:
                    wrong.append(f"{way}, seed {seed}: {what} {run[what]}, ours {mine[what]}")
            if 100 * abs(run["mta"] - mine["mta"]) > apart:
                wrong.append(f"{way}, seed {seed}: MTA {100 * run['mta']:.1f} %, ours {100 * mine['mta']:.1f} %")
    return wrong


if __name__ == "__main__":
    main()
