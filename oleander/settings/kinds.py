"""What kind of plug-in a function is, by the names of the types that it declares; read from its text, without importing it."""

import ast

from oleander.settings.declared import DATASETS, MODELS, declaration, function_in, knows_step, steps_of
from oleander.settings.steps import short

KINDS: dict[str, dict[tuple[tuple[str, ...], str], str]] = {
    "strategies": {
        (("Cohort",), "Cohort"): "filter",
        (("Cohort",), "Aggregate"): "rule",
        (("Aggregate", "Cohort"), "Aggregate"): "finish",
    },
    "attacks": {(("Attack",), "Attack"): "attack step"},
    "repairs": {(("ModelState",), "ModelState"): "repair"},
    MODELS: {(("int", "ImageSpace"), "Module"): "model"},
    DATASETS: {(("Path",), "Images"): "dataset"},
}
"""Package → types of the arguments that are no keywords, and of the result → kind."""
MEMORY = "Memory"


def kinds_of(package: str) -> str:
    """The kinds in words: ``filter (Cohort → Cohort), rule (Cohort → Aggregate) …``."""
    return ", ".join(f"{kind} ({', '.join(takes)} → {gives})" for (takes, gives), kind in KINDS[package].items())


def signature_in(source: str, name: str) -> tuple[tuple[str, ...], str, bool]:
    """Names of the types that a function takes, the name of what it returns, and whether it returns a memory with it."""
    function = function_in(source, name)
    assert function is not None
    aliases = {
        alias.asname: alias.name
        for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)
        for alias in node.names if alias.asname
    }  # fmt: skip
    arguments = [*function.args.posonlyargs, *function.args.args]
    takes = tuple(_named(argument.annotation, aliases) for argument in arguments)
    match _parsed(function.returns):
        case ast.Subscript(value=ast.Name(id="tuple" | "Tuple"), slice=ast.Tuple(elts=[result, memory])):
            return takes, _named(result, aliases), _named(memory, aliases) == MEMORY
    return takes, _named(function.returns, aliases), False


def kind_in(source: str, package: str, name: str) -> str | None:
    """The kind of a plug-in; None if its types are those of none."""
    takes, gives, remembers = signature_in(source, name)
    return None if remembers and package != "strategies" else KINDS[package].get((takes, gives))


def is_omniscient(source: str) -> bool:
    """Whether an attack's text sets ``Attack.omniscient``: its attackers see everybody's updates."""
    return "omniscient" in fields_set(source)


def has_trigger(attack: str) -> bool:
    """Whether a step of ``--attack`` sets ``Attack.trigger`` or its parts, so that a trigger can be measured without an attacker."""
    known = [short(step) for step in steps_of("attacks", attack) if knows_step("attacks", step)]
    return any({"trigger", "parts"} & fields_set(declaration("attacks", step).source) for step in known)


def fields_set(source: str) -> set[str]:
    """Names of the keyword arguments of all calls in a text: ``replace(attack, trigger=…)``."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return {keyword.arg for call in calls for keyword in call.keywords if keyword.arg}


def _parsed(annotation: ast.expr | None) -> ast.expr | None:
    """An annotation; one that is written as a string, as what stands in it."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return ast.parse(annotation.value, mode="eval").body
    return annotation


def _named(annotation: ast.expr | None, aliases: dict[str, str]) -> str:
    match _parsed(annotation):
        case ast.Name(id=name):
            return aliases.get(name, name)
        case ast.Attribute(attr=name):
            return name
        case None:
            return "nothing declared"
        case other:
            return ast.unparse(other)
