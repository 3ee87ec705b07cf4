"""Make the vectors: ``python -m conformance.make`` writes ``vectors/RULE.json`` from ``cohorts.py`` by ``exact.py``."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

from conformance import exact, exact_left_out
from conformance.cohorts import COHORTS, WIDE, Cohort, check
from conformance.exact import Refused, Result

RULES = exact.RULES | exact_left_out.RULES
FOLDER = Path(__file__).parent / "vectors"


def settings_for(rule: str, n: int) -> list[dict[str, Any]]:
    """The settings that a rule is tried with on n clients: within its bound, at it and beyond it."""
    krum = [{"f": f} for f in sorted({0, 1, 2, (n - 3) // 2, (n - 1) // 2}) if f >= 0]
    tried: dict[str, list[dict[str, Any]]] = {
        "krum": krum,
        "multi_krum": [
            {"f": s["f"], "m": m} for s in krum for m in sorted({1, 2, n - s["f"], n - 2 * s["f"] - 3}) if m > 0
        ],
        "trimmed_mean": [{"trim": trim} for trim in sorted({0, 1, (n - 1) // 2, n // 2})],
        "nnm": [{"f": f} for f in sorted({0, 1, 2, n})],
        "rlr": [{"threshold": threshold} for threshold in sorted({1, min(4, n), n, n + 1})],
        "bulyan": [{"f": f, "theta": n - 2 * f} for f in sorted({0, 1, 2}) if n - 2 * f > 0],
        "clip": [{"bound": bound} for bound in ("median", "1.5", "0.001")],
        "centred_clip": [{"tau": tau, "iterations": k} for tau in ("10", "0.5") for k in (1, 3)],
        "rfa": [{"iterations": 3, "nu": "1e-6"}],
        "foolsgold": [{"kappa": "1"}],
        "dnc": [{"f": f, "c": c} for f in (0, 1, 2) for c in ("1", "1.5") if f < n and (f or c == "1")],
        "signguard": [{"share": share} for share in ("1", "0.1")],
    }
    return tried.get(rule, [{}])


def case(rule: str, cohort: Cohort, settings: dict[str, Any]) -> dict[str, Any] | None:
    """One vector; None where the paper leaves open what the answer is."""
    try:
        results = RULES[rule](cohort.given(), **settings)
    except Refused as refused:
        return {"cohort": cohort.name, "settings": settings, "refused": str(refused)}
    except NotImplementedError:
        return None
    first = results[0]
    made: dict[str, Any] = {"cohort": cohort.name, "settings": settings, "aggregate": numbers(first.aggregate)}
    if first.influence is not None:
        made["influence"] = numbers(first.influence)
    if others := ties(results):
        made["ties"] = others
    return made


def ties(results: list[Result]) -> list[list[float]]:
    """What other ways to break ties come to."""
    found = [numbers(result.aggregate) for result in results]
    return [aggregate for k, aggregate in enumerate(found) if aggregate not in found[:k] and k]


def numbers(vector: list[Fraction]) -> list[float]:
    """In float64, each rounded once."""
    return [float(x) for x in vector]


def described(cohort: Cohort) -> dict[str, Any]:
    """A cohort as it is written."""
    made: dict[str, Any] = {"why": cohort.why, "updates": cohort.updates, "examples": list(cohort.counts()),
                            "server_update": list(cohort.server_update), "global_model": cohort.global_model()}  # fmt: skip
    return made | ({"output_layer": list(cohort.output_layer)} if cohort.output_layer else {})


def made() -> dict[str, dict[str, Any]]:
    """File name → what stands in it."""
    check()
    files: dict[str, dict[str, Any]] = {"cohorts": {cohort.name: described(cohort) for cohort in (*COHORTS, *WIDE)}}
    for rule, computed in RULES.items():
        cohorts = (*COHORTS, *WIDE) if rule in exact_left_out.RULES else COHORTS
        cases = [
            case(rule, cohort, settings) for cohort in cohorts for settings in settings_for(rule, len(cohort.updates))
        ]
        definition = " ".join((computed.__doc__ or "").split())
        files[rule] = {"rule": rule, "definition": definition, "cases": [one for one in cases if one]}
    return files


def text(content: dict[str, Any]) -> str:
    """JSON with a line for each cohort or case."""
    lines = []
    for name, value in content.items():
        if isinstance(value, list):
            inner = ",\n  ".join(json.dumps(one) for one in value)
            lines.append(f"{json.dumps(name)}: [\n  {inner}\n]")
        else:
            lines.append(f"{json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    """Write them all."""
    FOLDER.mkdir(exist_ok=True)
    for name, content in made().items():
        (FOLDER / f"{name}.json").write_text(text(content), encoding="utf-8")


if __name__ == "__main__":
    main()
