"""A mistake on a command line is one line about the word: what was meant, what it may be, and none of Python's types."""

import pytest

import server
import simulate
from oleander.network import client
from oleander.settings.cli import parse, parse_command
from oleander.settings.plan import plan_of
from oleander.settings.words import near, nearest
from oleander.system.errors import UserError

PYTHONS = ("float", "NoneType", "int(", "invalid literal", "Literal", "Traceback", "could not be parsed", "None")

SIMULATE = {
    "dba": ["did you mean --scenario dba?"],
    "dba --rounds 2": ["did you mean --scenario dba?"],
    "--rounds 2 dbaa": ["dbaa", "did you mean --scenario dba?"],
    "mine.toml": ["did you mean --scenario mine.toml?"],
    "median": ["did you mean --strategy median?"],
    "patch": ["did you mean --attack patch?"],
    "toy": ["did you mean --dataset toy?"],
    "list": ["did you mean --list?"],
    "servr": ["did you mean", "server"],
    "rounds=3": ["did you mean --rounds=3?"],
    "-rounds 3": ["did you mean --rounds?"],
    "xyzzy": ["belongs to no flag", "--help"],
    "--scenario dba krum": ["krum: belongs to no flag"],
    "--malicios 3": ["--malicios: no such flag (did you mean --malicious?)"],
    "--Rounds 3": ["did you mean --rounds?"],
    "--qqqqqq 3": ["--qqqqqq: no such flag", "--help"],
    "--clip-norm mean": ["--clip-norm mean: wanted median or a number, > 0"],
    "--clip-norm Median": ["did you mean median?"],
    "--clip_norm=mean": ["--clip_norm mean: wanted median or a number"],
    "--rounds five": ["--rounds five: wanted a whole number, ≥ 1"],
    "--rounds 2.5": ["--rounds 2.5: wanted a whole number"],
    "--rounds": ["--rounds: its value is missing: a whole number"],
    "--rounds=": ["--rounds '': wanted a whole number"],
    "--lr fast": ["--lr fast: wanted a number, > 0"],
    "--poison-rate 50%": ["--poison-rate 50%: wanted a number, ≥ 0, ≤ 1"],
    "--min-clients few": ["--min-clients few: wanted a whole number"],
    "--partition IID": ["--partition IID: wanted main_label or iid", "did you mean iid?"],
    "--no-cache yes": ["--no-cache yes: wanted true or false"],
    "--repeats many": ["--repeats many: wanted a whole number"],
    "--label-flip-source -1": ["label_flip_source = -1"],
    "--strategy Krum": ["--strategy Krum: 'Krum' is unknown", "did you mean krum?"],
    "--strategy krumm": ["did you mean krum?"],
    "--strategy clip+Krum": ["--strategy clip+Krum: 'Krum' is unknown", "did you mean krum?"],
    "--strategy clip,krum": ["did you mean clip+krum?"],
    "--strategy=": ["--strategy '': '' is unknown"],
    "--attack Blend --malicious 1": ["did you mean blend?"],
    "--attack= --malicious 1": ["--attack ''"],
    "--model ResNet18": ["did you mean resnet18?"],
    "--model torchvision:resnet5": ["did you mean resnet50?"],
    "--model=": ["--model '': unknown"],
    "--dataset CIFAR-10": ["did you mean cifar10?"],
    "--dataset folder": ["did you mean folder:DIR?"],
    "--dataset=": ["--dataset '': unknown"],
    "--scenario=": ["--scenario '': no such scenario", "known: "],
    "--scenario DBA": ["--scenario DBA: no such scenario (did you mean dba?)"],
    "--list Krum": ["did you mean krum?"],
    "--scenario dba --sweep malicious=1-3": ["--sweep malicious=1-3", "did you mean malicious=1,2,3?"],
    "--scenario fig2_krum --sweep lr=fast": ["--sweep lr=fast: lr = 'fast'"],
    "--scenario dba --sweep partition=IID": ["--sweep partition=IID", "did you mean iid?"],
    "--scenario dba --sweep Rounds=3": ["did you mean rounds?"],
    f"--scenario dba --seed {2**63 - 1} --repeats 2": [f"--seed {2**63 - 1} with --repeats 2", "at most 2^63 - 1"],
}


def said_of(main, words, capsys):
    """The exit code, and what stands on standard error."""
    try:
        code = main(words)
    except SystemExit as end:
        code = end.code
    return code, capsys.readouterr().err


@pytest.mark.parametrize("words", SIMULATE)
def test_simulate_says_what_was_meant_in_one_line(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, said = said_of(simulate.main, words.split(), capsys)
    assert code == 2 and said.startswith("error: ") and said.count("\n") == 1
    assert all(word in said for word in SIMULATE[words]), said
    assert not any(word in said for word in PYTHONS) and "scenarios/" not in said and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("main", "words", "wanted"),
    [
        (client.main, "--server http://127.0.0.1:18000 --client-id 0", ["http:// is too much", "such as 127.0.0.1:18000"]),
        (client.main, "--server https://h:1/ --client-id 0", ["https:// is too much", "such as h:1"]),
        (client.main, "--server 127.0.0.1:² --client-id 0", ["wanted HOST:PORT"]),
        (client.main, "--server h:1 --client-id x", ["--client-id x: wanted a whole number"]),
        (client.main, "--server h:1 --client-id 0 --wait long", ["--wait long: wanted a number"]),
        (client.main, "--sever h:1 --client-id 0", ["did you mean --server?"]),
        (client.main, "--client-id 0", ["--server"]),
        (server.main, "--host http://0.0.0.0", ["--host http://0.0.0.0: wanted a host's name or address alone, such as 0.0.0.0"]),
        (server.main, "--port http", ["--port http: wanted a whole number"]),
        (server.main, "key", ["did you mean", "server.py keys"]),
        (server.main, "keys --clients 2 --out k --san", ["--san: its value is missing: a text\n"]),
        (server.main, "keys --clients two --out k", ["--clients two: wanted a whole number"]),
    ],
)  # fmt: skip
def test_server_and_client_say_it_the_same_way(main, words, wanted, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, said = said_of(main, words.split(), capsys)
    assert code == 2 and said.startswith("error: ") and said.count("\n") == 1
    assert all(word in said for word in wanted), said
    assert not any(word in said for word in PYTHONS) and list(tmp_path.iterdir()) == []


def test_what_is_no_mistake_is_parsed_as_it_was():
    found = parse(
        ["--clip-norm", "2", "--strategy", "clip", "--no-cache", "--lr=1e-1", "--seed", "3", "--min-clients", "None"]
    )
    assert (found.clip_norm, found.no_cache, found.lr, found.seed, found.min_clients) == (2.0, True, 0.1, 3, None)
    assert parse(["--clip_norm", "median", "--strategy", "clip"]).clip_norm == "median"
    swept = parse_command(["--sweep", "lr=0.1,0.2", "--sweep", "rounds=1,2"]).flags.sweep
    assert swept == ("lr=0.1,0.2", "rounds=1,2")


@pytest.mark.parametrize(("word", "meant"), [("Krum", "krum"), ("MULTI-KRUM", "multi_krum"), ("zzzz", ""), ("", "")])
def test_the_nearest_name_does_not_hang_on_capitals_and_dashes(word, meant):
    assert nearest(word, ["krum", "multi_krum", "median"]) == meant
    assert near(word, ["krum", "multi_krum"]) == (f" (did you mean {meant}?)" if meant else "")


def scenario(tmp_path, content, name="mine.toml"):
    (tmp_path / name).write_bytes(content)
    return ["--scenario", str(tmp_path / name)]


def test_a_file_of_windows_is_read_and_another_encoding_is_named(tmp_path):
    assert parse(scenario(tmp_path, b"\xef\xbb\xbfrounds = 3\r\nlr = 0.1\r\n")).rounds == 3
    for content, words in (
        ("rounds = 3".encode("utf-16"), "it is in UTF-16"),
        (b'description = "caf\xe9"', "not in UTF-8 (byte 18 is 0xe9)"),
    ):
        with pytest.raises(UserError) as error:
            parse(scenario(tmp_path, content))
        assert words in str(error.value) and "codec" not in str(error.value)


@pytest.mark.parametrize("name", ["../x", "a/b", "/tmp/x", "..", ".", ".hidden", "a\\b", "a:b", "x" * 101, " ", "a*"])
def test_one_rule_for_names_of_runs_and_of_studies(name, tmp_path):
    for study in ("", "repeats = 2\n"):
        with pytest.raises(UserError, match=r"scenario = .*: wanted a name of up to 100 characters"):
            plan_of(parse_command(scenario(tmp_path, f"scenario = '{name}'\n{study}".encode())))


def test_a_file_may_have_any_name_and_what_is_named_by_it_one_that_a_folder_can_have(tmp_path):
    for name, called in (("my study.toml", "my study"), ("a:b.toml", "a_b"), (f"{'x' * 120}.toml", "x" * 100)):
        assert parse(scenario(tmp_path, b"rounds = 3", name)).scenario == called
        assert plan_of(parse_command(scenario(tmp_path, b"repeats = 2", name))).name == called


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Rounds = 3", "rounds"),
        ("ROUNDS = 3", "rounds"),
        ("poison-rate = 0.5", "poison_rate"),
        ("augment = 'Once'", "once"),
    ],
)
def test_settings_of_a_file_are_found_by_other_spellings(text, meant, tmp_path):
    with pytest.raises(UserError, match=f"did you mean {meant}"):
        parse(scenario(tmp_path, text.encode()))
