"""A source of images from outside the repository: what is refused, what its cache goes by, who may run it."""

import hashlib
import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from clients.app import _dataset, _dataset_of
from clients.plugins import own_hashes
from oleander.datasets.sources import load_dataset
from oleander.experiment.federation import client_config
from oleander.experiment.prepare import Sources, prepare
from oleander.experiment.records import write_scenario
from oleander.experiment.study import run_key
from oleander.network.client import _absolute
from oleander.settings import outside
from oleander.settings.cli import parse
from oleander.settings.config import Experiment
from oleander.settings.steps import short_value
from oleander.system.errors import UserError

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"
DATA = re.search(r"```python\n(\"\"\"Grey noise.*?)```", CONTRIBUTING.read_text(), re.S)[1]
FLAGS = ["--samples-per-client", "8", "--clients", "3", "--clients-per-round", "2", "--weights", "fresh"]


@pytest.fixture(autouse=True)
def forgotten():
    yield
    outside.forget()
    _dataset.cache_clear()


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "my_data.py"
    file.write_text(DATA)
    return file


def counting(file, tmp_path):
    """The source writes a letter each time that it is run."""
    call = f"open({str(tmp_path / 'runs')!r}, 'a').write('x')"
    file.write_text(file.read_text().replace("    grey = ", f"    {call}\n    grey = "))
    return lambda: len((tmp_path / "runs").read_text())


def test_contributings_example_is_prepared_recorded_and_run_again_from_anywhere(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    setup = prepare(parse(["--dataset", "./my_data.py", *FLAGS]), Sources(print))
    assert setup.dataset.name == "my_data" and setup.dataset.classes == ("dark", "bright")
    assert setup.dataset.train_images.shape == (2000, 1, 16, 16) and setup.dataset.image.channels == 1
    write_scenario(tmp_path / "config.toml", setup.experiment)
    text = (tmp_path / "config.toml").read_text()
    assert f'dataset = "{data}"' in text
    assert f'my_data_sha256 = "{hashlib.sha256(DATA.encode()).hexdigest()}"' in text
    monkeypatch.chdir("/")
    again = prepare(parse(["--scenario", str(tmp_path / "config.toml")]), Sources(print))
    assert run_key(again) == run_key(setup)
    data.write_text(DATA + "# another\n")
    with pytest.raises(UserError, match=r"my_data\.py is not the file that it was"):
        parse(["--scenario", str(tmp_path / "config.toml")])
    assert short_value("dataset", str(data)) == "my_data"
    assert short_value("dataset", "folder:/a/b.py") == "folder:/a/b.py"


def test_it_is_run_once_for_its_content_and_what_lies_in_its_folder(data, tmp_path):
    runs, folder = counting(data, tmp_path), tmp_path / "files"
    first = load_dataset(str(data), str(folder), print)
    assert load_dataset(str(data), str(folder), print).fingerprint == first.fingerprint and runs() == 1
    folder.mkdir()
    (folder / "a").touch()
    for content in ("b", "bc"):
        (folder / "a").write_text(content)
        load_dataset(str(data), str(folder), print)
    assert runs() == 3
    data.write_text(data.read_text().replace("drawn(200, 1)", "drawn(200, 2)"))
    outside.use("oleander.datasets", str(data), instead=True)
    assert load_dataset(str(data), str(folder), print).fingerprint != first.fingerprint and runs() == 4


def spoilt(old, new):
    assert old in DATA
    return DATA.replace(old, new)


BAD = {
    "another type": (spoilt("-> Images", "-> int"), ["Path → int", "dataset (Path → Images)"]),
    "settings": (spoilt("data_dir: Path)", "data_dir: Path, *, many: int = 1)"), ["many of my_data", "a dataset takes no settings"]),
    "import error": (spoilt("import numpy", "import numpyy"), ["line 5", "cannot be imported"]),
    "an error within": (spoilt("np.arange(count)", "np.arrange(count)"), ["my_data.py, line ", "AttributeError"]),
    "no images": (spoilt("return Images(", "return [drawn(9, 0)] or Images("), ["gave list"]),
    "no space": (spoilt("image=grey", "image=None"), ["image = None"]),
    "an impossible space": (spoilt("ImageSpace(1, 16", "ImageSpace(2, 16"), ["line ", "ValueError"]),
    "floats": (spoilt("astype(np.uint8)", "astype(np.float32)"), ["train_images are float32", "uint8"]),
    "another shape": (spoilt("ImageSpace(1, 16", "ImageSpace(1, 17"), ["(2000, 1, 16, 16)", "17"]),
    "no test images": (spoilt("drawn(200, 1)", "drawn(0, 1)"), ["test_images", "m > 0"]),
    "labels of classes that there are not": (spoilt("% 2", "% 3"), ["0 to 2", "the classes are 0 to 1"]),
    "labels that are none": (spoilt("% 2\n", "% 2 / 2\n"), ["train_labels are float64"]),
    "one class": (spoilt('("dark", "bright")', '("dark",)'), ["two names or more"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_is_no_source_is_refused_in_one_line_and_leaves_nothing(data, case, tmp_path):
    text, words = BAD[case]
    data.write_text(text)
    with pytest.raises(UserError) as error:
        prepare(parse(["--dataset", str(data), *FLAGS]), Sources(print))
    said = str(error.value)
    assert said.startswith(f"--dataset {data}: ") and all(word in said for word in words) and "\n" not in said, said
    assert not list(tmp_path.glob("cache/**/my_data*"))


def test_names_that_cannot_be(data, tmp_path):
    for name in ("cifar", "none", "./somewhere", "", "toy+toy", "folder:", "folder", "toy:", "toy:x", "partition"):
        with pytest.raises(UserError, match=r"known: auto, cifar10, .*folder:DIR, .*toy, or a file of your own"):
            parse([f"--dataset={name}"])
    for name in ("toy", "auto", "cifar10", "folder", "krum"):
        data.with_name(f"{name}.py").write_text(DATA.replace("my_data", name))
        with pytest.raises(UserError, match=f"{name}.* rename it"):
            parse(["--dataset", str(data.with_name(f"{name}.py"))])
    with pytest.raises(UserError, match="there is no file"):
        parse(["--dataset", str(tmp_path / "nowhere.py")])


def test_an_entry_point_is_a_source_and_is_among_the_known(data, tmp_path, monkeypatch):
    package, about = tmp_path / "site" / "their_data", tmp_path / "site" / "their_data-1.0.dist-info"
    package.mkdir(parents=True), about.mkdir()
    (package / "__init__.py").touch()
    (package / "my_data.py").write_text(DATA)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their-data\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[oleander.datasets]\nmy_data = their_data.my_data\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    importlib.invalidate_caches()
    try:
        experiment = parse(["--dataset", "my_data", *FLAGS])
        assert "their_data.my_data" not in sys.modules
        assert prepare(experiment, Sources(print)).dataset.name == "my_data"
        with pytest.raises(UserError, match=r"known: auto, cifar10, .*folder:DIR, .*toy, my_data"):
            parse(["--dataset", "my_date"])
    finally:
        for name in [name for name in sys.modules if name.startswith("their_data")]:
            del sys.modules[name]


def test_a_client_runs_no_file_that_the_server_names_unless_its_user_did(data, tmp_path):
    runs = counting(data, tmp_path)
    setup = prepare(parse(["--dataset", str(data), *FLAGS]), Sources(print))
    hello = client_config(setup)
    outside.forget()
    told = Experiment.from_json(hello["experiment"])
    elsewhere = hello | {"dataset-directory": str(tmp_path / "not here")}
    remote = {"mailbox": "m"}
    assert _dataset_of(hello, told, remote).fingerprint == setup.dataset.fingerprint  # the decoded images are here
    with pytest.raises(UserError, match=r"this client has no plug-in my_data.*--plugin my_data\.py"):
        _dataset_of(elsewhere, told, remote)
    (tmp_path / "own").mkdir()
    copy = tmp_path / "own" / "my_data.py"
    copy.write_text(data.read_text())
    named = remote | {"plugins": json.dumps([str(copy)])}
    assert own_hashes(told, named) == {"my_data": hashlib.sha256(copy.read_bytes()).hexdigest()}
    assert runs() == 1
    for config in (named, remote | {"same-machine": 1}):
        assert _dataset_of(elsewhere, told, config).fingerprint == setup.dataset.fingerprint
    copy.write_text(copy.read_text() + "# another\n")
    with pytest.raises(UserError, match="has another plug-in my_data"):
        _dataset_of(elsewhere, told, named)
    mine = told.changed(dataset=_absolute(str(copy), "dataset"))  # --dataset ./my_data.py: the images decide
    assert _dataset_of(elsewhere, mine, remote | {"dataset": str(copy)}).fingerprint == setup.dataset.fingerprint
    for array in Path(hello["dataset-directory"]).glob("train_images.npy"):
        np.lib.format.open_memmap(array, mode="r+")[0] ^= 1
    _dataset.cache_clear()
    before = runs()
    with pytest.raises(UserError, match=r"is damaged .* no copy of its source"):
        _dataset_of(hello, told, remote)
    assert runs() == before
