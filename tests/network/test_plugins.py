"""A model and an attack from outside the repository, over a real network: as simulated, and without those who have other files."""

import pytest

from oleander.experiment.records import read_summary
from oleander.settings import outside
from tests.in_process import run_here
from tests.models.test_own import MODEL
from tests.network.places import THREE, Place
from tests.settings.test_outside import ATTACK

pytestmark = pytest.mark.network


@pytest.fixture
def files(tmp_path):
    for name, text in (("my_model", MODEL), ("my_attack", ATTACK)):
        (tmp_path / f"{name}.py").write_text(text)
    yield tmp_path / "my_model.py", tmp_path / "my_attack.py"
    outside.forget()


def test_they_come_to_the_simulations_model_and_who_says_it_has_others_is_sent_away(files, tmp_path, task):
    model, attack = files
    flags = [
        *THREE,
        "--malicious",
        1,
        "--model",
        model,
        "--attack",
        f"patch+{attack}",
    ]
    run_here(*flags, out=tmp_path / "simulated")
    (tmp_path / "own").mkdir()
    own = tmp_path / "own" / "my_model.py"
    own.write_text(MODEL)
    with Place(tmp_path / "place") as place:
        place.server(*flags, "--out", place.out)
        place.client(1, "--plugin", own), place.client(2)
        place.faulty(0, "plugins")
        assert place.ended("client0", 120) == 2
        assert "client 0 has another plug-in my_model than the server: SHA-256 abababababab…" in place.said("client0")
        place.client(0)
        assert place.ended("server") == 0, place.all()
        assert [place.ended(f"client{i}", 120) for i in range(3)] == [0] * 3, place.all()
        assert "refused: client 0 has another plug-in my_model" in " ".join(place.said("server").split())
        assert read_summary(place.out).model_sha256 == read_summary(tmp_path / "simulated").model_sha256
