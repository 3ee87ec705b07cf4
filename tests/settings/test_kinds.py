"""What a plug-in is, by its text alone."""

import re

import pytest

from oleander.settings.cli import check_attackers
from oleander.settings.config import Experiment
from oleander.settings.kinds import has_trigger
from oleander.settings.outside import forget, use
from oleander.system.errors import UserError


@pytest.mark.parametrize(
    ("attack", "offered"),
    [
        ("blend", True), ("dba+scaling", True), ("patch+pgd", True), ("a3fl", True), ("sig", True), ("fcba", True),
        ("sign_flip", False), ("gaussian", False), ("ipm", False), ("mimic", False), ("min_max", False),
        ("label_flip", False), ("scaling", False), ("edge_case", False),
    ],
)  # fmt: skip
def test_the_asr_of_a_trigger_is_offered_only_where_the_attack_has_one(attack, offered):
    with pytest.raises(
        UserError, match=f"--attack {re.escape(attack)} with --malicious 0: nobody would attack"
    ) as error:
        check_attackers(Experiment(), [Experiment(attack=attack)], ["attack"])
    assert ("ASR of its trigger" in str(error.value)) is offered
    wanted = f"--scenario clean --attack {attack}" if offered else "without an attacker: --scenario clean"
    assert str(error.value).endswith(wanted)


def test_a_trigger_of_a_file_of_ones_own_is_known_by_its_text(tmp_path):
    file = tmp_path / "my_mark.py"
    file.write_text(
        '"""A mark."""\nfrom dataclasses import replace\nfrom attacks import Attack\n\n\n'
        'def my_mark(attack: Attack) -> Attack:\n    """Mark."""\n    return replace(attack, trigger=lambda pixels: pixels)\n'
    )
    use("attacks", str(file))
    try:
        assert has_trigger(str(file)) and has_trigger(f"scaling+{file}") and not has_trigger(f"{tmp_path}/other.py")
    finally:
        forget()
