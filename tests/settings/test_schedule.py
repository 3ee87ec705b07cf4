"""Which clients attack in which rounds: --attackers, --attack-rounds."""

from dataclasses import replace

import pytest

from oleander.settings.cli import parse, parse_command
from oleander.settings.config import Experiment, validated
from oleander.system.errors import UserError

BASE = ["--scenario", "blend", "--rounds", "50"]


def rounds_of(text, rounds=50):
    experiment = parse(["--scenario", "blend", "--rounds", str(rounds), "--attack-rounds", text])
    return {number for number in range(1, rounds + 1) if experiment.attackers_in(number)}


@pytest.mark.parametrize(
    ("text", "attacked"),
    [
        ("5", {1, 2, 3, 4, 5}),
        ("3-10", set(range(3, 11))),
        ("10-40/5", {10, 15, 20, 25, 30, 35, 40}),
        ("10-12/5", {10}),
        ("7-7", {7}),
        ("1-3,7", {1, 2, 3, 7}),
        ("4,2-6/2", {2, 4, 6}),
        (" 1-3, 7 ", {1, 2, 3, 7}),
        ("50", set(range(1, 51))),
    ],
)
def test_rounds_of_attack_are_a_number_or_ranges(text, attacked):
    assert rounds_of(text) == attacked


def test_a_number_is_kept_as_a_number_so_that_older_records_and_keys_stay():
    assert parse([*BASE, "--attack-rounds", "5"]).attack_rounds == 5
    for setting in (5, "5", "3-10", None):
        experiment = validated({"attack": "patch", "malicious": 1, "rounds": 50, "attack_rounds": setting}, "here")
        assert Experiment.from_json(experiment.to_json()) == experiment
    assert validated({"attack_rounds": "5"}, "here").attack_rounds == 5


@pytest.mark.parametrize(
    "text", ["", ",", "3-", "3-1", "0-3", "1-3/0", "x", "1..3", "1-3,", "1-3/2/2", "1.5", "٣-٤", "1-9999999"]
)
def test_what_is_no_rounds_is_refused_with_value_and_rule(text):
    with pytest.raises(UserError) as error:
        parse([*BASE, f"--attack-rounds={text}"])
    assert "attack_rounds" in str(error.value) and "FIRST-LAST" in str(error.value)
    with pytest.raises(UserError, match="attack_rounds"):
        validated({"attack_rounds": text}, "a file")


@pytest.mark.parametrize("number", [-1, 1_000_001])
def test_a_number_that_is_no_count_of_rounds_is_refused(number):
    for refused in (
        lambda: parse([*BASE, f"--attack-rounds={number}"]),
        lambda: validated({"attack_rounds": number}, "a file"),
    ):
        with pytest.raises(UserError, match=f"attack_rounds = {number} must be"):
            refused()


@pytest.mark.parametrize("text", ["51", "40-60", "1,51", "51-60/20", "10-51"])
def test_rounds_that_the_run_does_not_have_are_refused(text):
    for arguments in ([*BASE, "--attack-rounds", text], [*BASE, "--sweep", f"attack_rounds={text.split(',')[-1]}"]):
        with pytest.raises(UserError, match=r"--attack-rounds .*: beyond --rounds 50"):
            plan_or_parse(arguments)


def plan_or_parse(arguments):
    from oleander.settings.plan import plan_of

    return plan_of(parse_command(arguments)) if "--sweep" in arguments else parse(arguments)


def test_a_files_number_may_lie_beyond_the_last_round_and_its_ranges_may_not(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('attack = "patch"\nmalicious = 1\nrounds = 4\nattack_rounds = 9\n')
    assert parse(["--scenario", str(file)]).attackers_in(4) == {0}
    file.write_text('attack = "patch"\nmalicious = 1\nrounds = 4\nattack_rounds = "2-9"\n')
    with pytest.raises(UserError, match="--attack-rounds 2-9: beyond --rounds 4"):
        parse(["--scenario", str(file)])


def test_an_attack_in_no_round_is_idle():
    experiment = Experiment(attack="patch", malicious=1, rounds=9)
    assert [replace(experiment, attack_rounds=r).idle for r in (None, 0, 1, "5-7")] == [False, True, False, False]


def test_fixed_attackers_are_the_first_clients_and_random_ones_are_drawn_by_the_seed():
    fixed = Experiment(attack="patch", malicious=3, clients=20, clients_per_round=20)
    assert fixed.malicious_clients == (0, 1, 2) and fixed.attackers_in(1) == {0, 1, 2}
    drawn = [replace(fixed, attackers="random", seed=seed).malicious_clients for seed in range(200)]
    assert all(len(set(ids)) == 3 and list(ids) == sorted(ids) for ids in drawn)
    assert {client for ids in drawn for client in ids} == set(range(20))
    again = replace(fixed, attackers="random", seed=7, rounds=1, lr=1.0)
    assert again.malicious_clients == drawn[7] and again.attackers_in(5) == set(drawn[7])
    assert replace(again, malicious=0).malicious_clients == () and replace(again, malicious=20).attackers_in(1) == set(
        range(20)
    )


def test_who_attacks_is_one_of_two_words():
    with pytest.raises(UserError, match="attackers = 'some'"):
        validated({"attackers": "some"}, "here")
