"""Studies on small photographs and slices: runs that are kept, killed, resumed, shared and refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from monai_r2unet.apps.cli.main import main
from monai_r2unet.apps.reproduce.records import points_of, read_curve, write_curve
from monai_r2unet.apps.reproduce.study import OBSERVER
from monai_r2unet.metrics import CaseMeasures, ConfusionCounts, RocHistogram, RocScores, confusion
from tests.apps.reproduce.reproduce_examples import SMALL, leaving_one_out, with_second_observer
from tests.helpers.arrays import pixels
from tests.helpers.bundle_runs import QUIET, environment, history, in_checkout, kill_training_after_two_epochs
from tests.helpers.lung_examples import write_dataset as write_lungs

pytestmark = [pytest.mark.filterwarnings(warning) for warning in QUIET]

Reproduce = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _as_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from in_checkout(monkeypatch)


@pytest.fixture
def reproduce(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Reproduce:
    """Runs the verb: exit code, standard output, standard error."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which `main` replaces

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main(["reproduce", *map(str, arguments)])
        except SystemExit as left:  # of argparse
            code = int(left.code or 0)
        return code, *capsys.readouterr()

    return run


def results(out: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted((out / "results").glob("*.json"))}


def times(folder: Path) -> dict[Path, int]:
    """When each file was last written; locks are taken, and tables made, every time."""
    made = (path for path in folder.rglob("*") if path.is_file() and path.name not in ("lock", "tables.md"))
    return {path: path.stat().st_mtime_ns for path in made if not path.name.endswith("-curves.png")}


def test_a_study_and_its_results(tmp_path: Path, reproduce: Reproduce) -> None:
    data, out = with_second_observer(tmp_path / "data"), tmp_path / "out"
    options = ["chase_db1", "--data", data, "--out", out, "--networks", "ForwardUNet", "--seeds", 3, "--epochs", 1]
    code, table, err = reproduce(*options, "--protocol", "default", *SMALL)
    assert code == 0, err
    assert re.findall(r"^(\S+): done$", err, re.MULTILINE) == [
        "chase_db1-observer2",
        "chase_db1-default-ForwardUNet-t2-seed3",
    ]
    found = results(out)
    run = out / "runs" / "chase_db1-default-ForwardUNet-t2-seed3"
    one = found[run.name]
    assert one["command"] == (
        "monai-r2unet reproduce chase_db1 --data DATA --out OUT --networks ForwardUNet --seeds 3 --protocol default "
        "--epochs 1 --patches 8 --patch-size 16 --batch-size 4 --device cpu"
    )
    assert one["schedule"] == {"epochs": 1, "patches": 8, "patch_size": 16, "batch_size": 4, "lr": 0.002}
    assert (one["seed"], one["protocol"], one["parameters"]) == (3, "default", 482_737)
    assert (one["data"]["training"], one["data"]["validation"], one["data"]["test"]) == (2, 1, 2)
    assert str(tmp_path) not in json.dumps(found)
    # The threshold is the one that was best for the validation photograph, and what was measured is the bundle's.
    trained, tested = (json.loads((run / name).read_text()) for name in ("results.json", "test/evaluation.json"))
    assert trained["seed"] == 3
    assert one["test"]["threshold"] == trained["validation"]["val_best_threshold"] == tested["threshold"]
    for region in ("inside_fov", "whole_image"):
        assert one["test"]["regions"][region]["pooled"] == tested[region]["pooled"]
    assert one["training"]["seconds"] > 0
    assert one["test"]["seconds_per_image"] == one["test"]["seconds"] / 2 > 0
    assert one["versions"] == trained["versions"]
    assert not (run / "resume").exists()
    # The curve is that of the pixels inside the fields of view.
    curve = read_curve(out / "results" / one["curve"])
    assert sum(row[1] + row[2] for row in curve) == tested["inside_fov"]["pooled"]["pixels"]

    observed = found["chase_db1-observer2"]["test"]["regions"]["inside_fov"]
    entries = json.loads((data / "datalist.json").read_text())["test"]
    masks = [[pixels(data / entry[key]) > 0 for entry in entries] for key in ("label_2", "label", "fov")]
    counts = sum((confusion(*masks_of_one) for masks_of_one in zip(*masks, strict=True)), ConfusionCounts())
    assert observed["pooled"]["f1"] == counts.f1
    assert observed["pooled"]["auc"] is None
    assert f"| {OBSERVER} | inside FOV | {counts.f1:.4f} |" in table
    for name in ("curves", "ForwardUNet-t2-seed3"):
        assert min(Image.open(out / "figures" / f"chase_db1-default-{name}.png").size) > 300
    assert table.strip() in (out / "tables.md").read_text(encoding="utf-8")

    # A second call does nothing, and another budget is refused.
    before = times(out)
    code, again, err = reproduce(*options, "--protocol", "default", *SMALL)
    assert (code, again, err) == (0, table, "")
    assert times(out) == before
    code, _, err = reproduce(*options[:-1], 2, "--protocol", "default", *SMALL)
    assert code == 2
    assert re.fullmatch(
        r'error: .*seed3.json was made with the schedule {"epochs": 1, .*: choose another --out.*\n', err
    )
    assert times(out) == before


def test_a_killed_study_goes_on_where_it_was(tmp_path: Path, reproduce: Reproduce) -> None:
    data, out, epochs = with_second_observer(tmp_path / "data"), tmp_path / "out", 20
    options = ["chase_db1", "--data", data, "--out", out, "--networks", "ForwardUNet", "--seeds", 0, *SMALL]
    options = [str(option) for option in [*options, "--epochs", epochs]]
    run = out / "runs" / "chase_db1-paper-ForwardUNet-t2-seed0"
    kill_training_after_two_epochs(["-m", "monai_r2unet", "reproduce", *options], run)
    assert list(results(out)) == ["chase_db1-observer2"]
    rows = history(run)
    assert 1 < len(rows) < epochs
    # Only epochs that are done again may be timed anew.
    seconds = json.loads((run / "seconds.json").read_text())
    first = {"1": 1234.5}
    (run / "seconds.json").write_text(json.dumps({**seconds, **first}))
    assert reproduce(*options)[0] == 0
    assert [row["epoch"] for row in history(run)] == list(range(1, epochs + 1))
    assert [row["train_loss"] for row in history(run)][: len(rows) - 1] == [row["train_loss"] for row in rows[:-1]]
    (one,) = [one for one in results(out).values() if one["network"] == "ForwardUNet"]
    assert 1234.5 < one["training"]["seconds"] < 1334.5


def test_processes_share_the_runs(tmp_path: Path) -> None:
    """Two processes that torchrun started: nothing is done twice, nothing left out."""
    data, out = with_second_observer(tmp_path / "data"), tmp_path / "out"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "monai_r2unet"]
    options = ["--networks", "ForwardUNet", "--seeds", "0", "1", "2", "--epochs", "1", *SMALL]
    done = subprocess.run(
        [sys.executable, *launcher, "reproduce", "chase_db1", "--data", str(data), "--out", str(out), *options],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env=environment(),
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    told = re.findall(r"^(\S+): done$", done.stderr, re.MULTILINE)
    assert (
        sorted(told)
        == sorted(results(out))
        == [
            "chase_db1-observer2",
            *(f"chase_db1-paper-ForwardUNet-t2-seed{seed}" for seed in (0, 1, 2)),
        ]
    )
    assert re.search(r"^\| ForwardUNet \| inside FOV .*\| 0, 1, 2 \|$", done.stdout, re.MULTILINE)
    assert done.stdout.strip() in (out / "tables.md").read_text(encoding="utf-8")
    assert len(list((out / "figures").glob("*.png"))) == 4


def test_leaving_one_out(tmp_path: Path, reproduce: Reproduce) -> None:
    data, out = leaving_one_out(tmp_path / "data"), tmp_path / "out"
    options = ["stare", "--data", data, "--out", out, "--networks", "ForwardUNet", "--seeds", 0, "--epochs", 1, *SMALL]
    code, table, err = reproduce(*options)
    assert code == 0, err
    found = results(out)
    folds = [f"stare-paper-ForwardUNet-t2-seed0-{name}" for name in ("Image_11L", "Image_11R")]
    assert sorted(found) == ["stare-observer2-Image_11L", "stare-observer2-Image_11R", *folds]
    assert all(one["data"]["test"] == 1 and one["folds"] == 2 for one in found.values())
    f1 = np.mean([found[name]["test"]["regions"]["inside_fov"]["pooled"]["f1"] for name in folds])
    assert f"| ForwardUNet | inside FOV | {f1:.4f} |" in table
    assert {path.name for path in (out / "figures").iterdir()} == {
        "stare-paper-ForwardUNet-t2-seed0.png",
        "stare-paper-curves.png",
    }


def test_volumes_and_a_failed_run(tmp_path: Path, reproduce: Reproduce) -> None:
    """Slices of CT; a failed run is reported, the others continue, and the next call repeats it."""
    data, out = write_lungs(tmp_path / "data"), tmp_path / "out"
    options = ["lung", "--data", data, "--out", out, "--name", "lctsc", "--networks", "ForwardUNet", "--device", "cpu"]
    options += ["--epochs", 1, "--slice_size", 32, "--batch_size", 4, "--seeds", 0, 1]
    broken = out / "runs" / "lctsc-paper-ForwardUNet-t2-seed0" / "log.txt"
    broken.mkdir(parents=True)
    code, table, err = reproduce(*options)
    assert code == 3
    assert re.findall(r"^failed: (\S+): ", err, re.MULTILINE) == ["lctsc-paper-ForwardUNet-t2-seed0"]
    assert list(results(out)) == ["lctsc-paper-ForwardUNet-t2-seed1"]
    assert re.search(r"\| ForwardUNet \| whole image \|.*\| 1 \|", table)
    broken.rmdir()
    code, table, err = reproduce(*options)
    assert (code, err.count(": done\n")) == (0, 1)
    assert re.search(r"\| ForwardUNet \| whole image \|.*\| 0, 1 \|", table)
    assert "**Lungs, lctsc**, protocol `paper`: epochs 1, slice size 32, batch size 4, lr 0.0002." in table
    assert min(Image.open(out / "figures" / "lctsc-paper-ForwardUNet-t2-seed1.png").size) > 300


def test_a_tenth_of_the_paper_s_patches_is_for_validation(
    tmp_path: Path, reproduce: Reproduce, monkeypatch: Any
) -> None:
    made = []
    monkeypatch.setattr(
        "monai_r2unet.apps.reproduce.workflows.ConfigWorkflow", lambda *_, **values: made.append(values)
    )
    data, out = with_second_observer(tmp_path / "data"), tmp_path / "out"
    reproduce("drive", "--data", data, "--out", out, "--networks", "R2UNet", "--seeds", 0, "--patches", 900)
    (training,) = [values for values in made if values["run_id"] == "training"]
    assert (training["patches"], training["validate#dataset#patches"]) == (900, 100)
    assert training["patience"] > 150


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["chase_db1", "--networks", "UNet"], "argument --networks: invalid choice: 'UNet'"),
        (["chase_db1", "--epochs", "0"], "argument --epochs: must be a whole number, 1 or more, got '0'"),
        (["chase_db1", "--seeds", "-1"], "argument --seeds"),
        (["chase_db1", "--lr", "nan"], "argument --lr: must be a number above 0, got 'nan'"),
        (["chase_db1", "--seeds", "1", "1"], "--seeds names one twice (1, 1): name each once"),
        (["chase_db1", "--name", "a/b"], "--name is 'a/b', expected letters, digits and _ only"),
        (["chase_db1", "--slice_size", "32"], "--slice-size is given, but the training of chase_db1 has none"),
        (["lung", "--patches", "8"], "--patches is given, but the training of lung has none"),
        (["skin", "--patch_size", "8"], "--patch-size is given, but the training of skin has none"),
        (["drive"], "the bundle drive comes without images: make a folder of them with `monai-r2unet prepare drive"),
        (["drive", "--data", "nowhere"], "nowhere does not exist"),
        (["chase_db1", "--device", "abacus"], "device 'abacus' cannot be used here"),
    ],
)
def test_bad_arguments(tmp_path: Path, reproduce: Reproduce, arguments: list[str], sentence: str) -> None:
    code, out, err = reproduce(*arguments, "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert sentence in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_what_is_no_folder_of_results(tmp_path: Path, reproduce: Reproduce) -> None:
    (tmp_path / "file").touch()
    assert reproduce("skin", "--out", tmp_path / "file")[0] == 2
    folder = tmp_path / "out" / "results"
    folder.mkdir(parents=True)
    for content in ("{", "[]", '{"dataset": "skin"}'):
        (folder / "a.json").write_text(content)
        code, _, err = reproduce("skin", "--out", tmp_path / "out")
        assert code == 2
        assert str(folder / "a.json") in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["results"]


def test_curves_add_up_and_keep_their_area(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    scores = [torch.tensor(generator.beta(*shape, 20000), dtype=torch.float32) for shape in ((1, 8), (4, 2))]
    exact = RocScores(*scores)
    case = CaseMeasures("a", ConfusionCounts(), exact)
    write_curve([case, case], tmp_path / "exact.csv")
    both, reference = torch.cat(scores), torch.arange(40000) >= 20000
    write_curve([CaseMeasures("a", ConfusionCounts(), RocHistogram.of(both, reference))], tmp_path / "binned.csv")
    curve, binned = read_curve(tmp_path / "exact.csv"), read_curve(tmp_path / "binned.csv")
    assert [(t, 2 * b, 2 * f) for t, b, f in binned] == curve
    assert 200 < len(curve) < 300
    rates, sensitivities, precisions = points_of([curve, binned])
    assert np.trapezoid(sensitivities, rates) == pytest.approx(exact.auc, abs=2e-4)
    assert (rates[-1], sensitivities[-1], precisions[-1]) == (1, 1, 0.5)
    half = next(index for index, (threshold, *_) in enumerate(reversed(curve), start=1) if threshold <= 0.5)
    threshold = curve[-half][0]
    counts = confusion(both >= threshold, reference)
    assert (1 - rates[half], sensitivities[half]) == pytest.approx((counts.specificity, counts.sensitivity))
    assert precisions[half] == pytest.approx(counts.precision)
