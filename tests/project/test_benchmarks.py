"""The benchmarks run, their peers are the named programs, and every table matches its result file."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import SimpleITK as sitk
import torch

from benchmarks import average_weights, bookkeeping, collect, gpu, measure, peers, speed, speed_tables, tables, volumes
from benchmarks.records import RESULTS, read_lines
from benchmarks.stare_leave_one_out import write_maps
from monai_r2unet.networks import R2UNet


def test_tables_are_those_of_the_result_files(repository: Path) -> None:
    found = []
    for name in tables.FILES:
        text = (repository / name).read_text(encoding="utf-8")
        assert tables.fill(text) == text, f"{name}: run python -m benchmarks.tables"
        found += [table for table in tables.TABLES if f"<!-- results: {table} -->" in text]
    assert sorted(found) == sorted(tables.TABLES)


def test_every_module_is_imported_as_a_part_of_the_package(repository: Path) -> None:
    """None edits sys.path, imports by a bare name, or is taken for a test; lungmask's runs in another environment."""
    names = {path.stem for path in (repository / "benchmarks").glob("*.py")} - {"__init__", "lungmask_process"}
    assert not [name for name in names if name.startswith("test_") or name.endswith("_test")]
    imports = f"import {', '.join(f'benchmarks.{name}' for name in sorted(names))}"
    code = f"import sys; before = list(sys.path); {imports}; assert sys.path == before"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- result files ----------------------------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A folder as `monai-r2unet reproduce` leaves it, with three runs that were measured."""
    folder = tmp_path / "out" / "results"
    folder.mkdir(parents=True)
    for number, result in enumerate(read_lines(RESULTS / "reproduce.jsonl")[:3]):
        (folder / f"{number}.json").write_text(json.dumps({**result, "curve": f"{number}.csv"}))
        (folder / f"{number}.csv").write_text("threshold,background,foreground\n")
    return folder.parent


def test_results_of_a_study_are_collected_once(study: Path, tmp_path: Path) -> None:
    """A second call adds nothing, a run that was done again takes the place of the first, another budget is added."""
    expected = read_lines(RESULTS / "reproduce.jsonl")[:3]
    collected = tmp_path / "reproduce.jsonl"
    for _ in range(2):
        assert collect.collect_reproduce(study, tmp_path) == 3
        assert read_lines(collected) == expected
    assert tables.reproduced.all_tables(read_lines(collected)) == tables.reproduced.all_tables(expected)

    again = {**expected[1], "parameters": 7}
    longer = {**expected[2], "schedule": {**expected[2]["schedule"], "epochs": 99}}
    for number, result in ((1, again), (2, longer)):
        (study / "results" / f"{number}.json").write_text(json.dumps(result))
    collect.collect_reproduce(study, tmp_path)
    assert read_lines(collected) == [expected[0], again, expected[2], longer]


def test_the_committed_results_are_what_collecting_them_again_gives(tmp_path: Path) -> None:
    (tmp_path / "out" / "results").mkdir(parents=True)
    expected = read_lines(RESULTS / "reproduce.jsonl")
    for number, result in enumerate(expected):
        (tmp_path / "out" / "results" / f"{number:03d}.json").write_text(json.dumps(result))
    collect.collect_reproduce(tmp_path / "out", tmp_path)
    assert (tmp_path / "reproduce.jsonl").read_bytes() == (RESULTS / "reproduce.jsonl").read_bytes()


def test_a_training_is_collected_with_its_history(tmp_path: Path, monkeypatch, capsys) -> None:
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(collect, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["collect", "training", "lung", "first", str(out), "--command", "python"])
    with pytest.raises(SystemExit, match="2"):
        collect.main()
    assert "no results.json" in capsys.readouterr().err
    assert not (tmp_path / "lung_training.jsonl").exists()

    (out / "results.json").write_text(json.dumps({"dataset_dir": str(tmp_path / "lung_data"), "lr": 0.1}))
    (out / "history.csv").write_text("epoch,val_dice,val_auc\n1.0,0.25,nan\n2.0,0.5,\n")
    for _ in range(2):
        collect.main()
    assert read_lines(tmp_path / "lung_training.jsonl") == [
        {
            "training": "first",
            "results": {"command": "python", "dataset_dir": "lung_data", "lr": 0.1},
            "history": {"epoch": [1, 2], "val_dice": [0.25, 0.5], "val_auc": [None, None]},
        }
    ]


def test_every_training_is_kept_with_its_command_and_every_epoch() -> None:
    files = sorted(RESULTS.glob("*_training.jsonl"))
    assert [path.stem.removesuffix("_training") for path in files] == ["chase_db1", "drive", "lung", "skin", "stare"]
    for path in files:
        names = [one["training"] for one in read_lines(path)]
        assert len(set(names)) == len(names)
        for one in read_lines(path):
            assert one["results"]["command"].startswith("python -m monai.bundle run training ")
            epochs = one["history"]["epoch"]
            assert epochs == list(range(1, len(epochs) + 1))
            assert all(len(values) == len(epochs) for values in one["history"].values())


def test_the_same_maps_make_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_maps({"im0001": b"1", "im0002": b"22"}, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with zipfile.ZipFile(tmp_path / "one") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {"im0001.webp": b"1", "im0002.webp": b"22"}


# ---- speed -----------------------------------------------------------------------------------------------------------


def test_every_part_runs_and_fills_its_table(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("LUNGMASK_PYTHON", raising=False)
    parts = ["cpu", "training", "memory", "end_to_end", "photograph"]
    monkeypatch.setattr(sys, "argv", ["speed.py", *parts, "--tiny", "--results", str(tmp_path)])
    speed.main()

    cpu = json.loads((tmp_path / "speed_cpu.json").read_text())
    # Parameters of the small network are in docs/explanation/networks.md; the two unrollings differ only in their work.
    assert cpu["parameters"]["reference"] == cpu["parameters"]["naive_eq1"] == 1046129
    assert cpu["gflop"]["naive_eq1"] / cpu["gflop"]["reference"] == pytest.approx(1.64, abs=0.02)
    assert cpu["ours_against_reference"]["largest_difference_of_probability"] < 0.2
    assert {"processor", "threads", "versions", "instructions"} <= set(cpu)
    memory = json.loads((tmp_path / "speed_memory.json").read_text())
    assert [run["slices"] for run in memory["runs"]] == [1, 2]
    assert all(run["peak_bytes"] > 1e8 for run in memory["runs"])
    whole = json.loads((tmp_path / "speed_end_to_end.json").read_text())
    (run,) = whole["runs"]["ours"]
    assert sum(run["stages"].values()) < run["seconds"]

    monkeypatch.setattr(speed_tables, "RESULTS", tmp_path)
    for part, table in speed_tables.TABLES.items():
        if part != "speed_gpu":
            assert table().startswith("| ")


def test_the_bookkeeping_is_measured_in_parts_of_the_folder() -> None:
    measured = bookkeeping.measure_speed(20)
    for what in ("segmented", "skipped"):
        assert len(measured[what]["cpu_seconds"]) == len(measured[what]["seconds"]) == bookkeeping.WINDOWS
        assert min(measured[what]["seconds"]) > 0


def test_bookkeeping_does_not_grow_with_the_folder() -> None:
    committed = json.loads((RESULTS / "bookkeeping.json").read_text())
    assert committed["cases"] == 5000
    seconds = committed["segmented"]["cpu_seconds"]
    assert max(seconds) < 1.2 * min(seconds)
    _, *skipped = committed["skipped"]["cpu_seconds"]  # the first also has what comes before the first case
    assert max(skipped) < 0.1 * min(seconds)


def test_the_gpu_part_runs_where_there_is_none(tmp_path: Path, monkeypatch) -> None:
    result = gpu.measure_speed(tiny=True, device="cpu")
    assert set(result["seconds_per_slice"]) == {"1", "2"}
    # The head alone reads 16 maps and writes one of 64x64 float32.
    assert result["bytes_per_slice"]["float32"] > 17 * 64 * 64 * 4
    assert result["bytes_per_slice"]["bfloat16"] < result["bytes_per_slice"]["float32"]
    assert result["volume"]["size"] == [256, 256, 2]
    (tmp_path / "speed_gpu.json").write_text(json.dumps({**measure.machine(), **result}))
    monkeypatch.setattr(speed_tables, "RESULTS", tmp_path)
    assert speed_tables.gpu().startswith("| batch | float32")


def test_speed_refuses_to_keep_tiny_figures(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["speed.py", "cpu", "--tiny"])
    with pytest.raises(SystemExit, match="2"):
        speed.main()
    assert "--results" in capsys.readouterr().err


def test_naive_unrolling_computes_what_ours_computes() -> None:
    naive, ours = peers.naive_r2unet(channels=(4, 8)), R2UNet(channels=(4, 8))
    naive.load_state_dict(ours.state_dict())
    image = torch.rand(2, 1, 16, 16)
    assert torch.equal(naive(image), ours(image))


def test_one_kernel_form_convolves_once_more_than_it_recurs() -> None:
    gflop = measure.gflop
    layer, image = peers.OneKernelRecurrence(8, recurrences=2), torch.rand(1, 8, 16, 16)
    assert gflop(layer, image) == pytest.approx(3 * gflop(layer.step[0], image))
    assert peers.OneKernelR2UNet()(torch.rand(2, 1, 32, 32)).shape == (2, 1, 32, 32)


def test_rounds_take_turns_and_the_first_is_not_kept() -> None:
    order: list[str] = []
    jobs = {name: lambda name=name: order.append(name) for name in "abc"}
    samples = measure.interleaved(jobs, rounds=2)
    assert "".join(order) == "abcbcacab"
    assert {name: len(kept) for name, kept in samples.items()} == {"a": 2, "b": 2, "c": 2}


def test_memory_of_a_process_is_its_own() -> None:
    run_process = measure.run_process
    held = torch.ones(100_000_000)  # of this process, 400 MB
    small = run_process([sys.executable, "-S", "-c", "pass"])
    large = run_process([sys.executable, "-S", "-c", "x = b'1' * 200_000_000"])
    assert held.sum() == 100_000_000
    assert small["peak_bytes"] < 50e6
    assert 200e6 < large["peak_bytes"] < 250e6
    with pytest.raises(RuntimeError, match="no such luck"):
        run_process([sys.executable, "-S", "-c", "raise SystemExit('no such luck')"])


def test_stacking_repeats_the_slices_on_the_same_grid(tmp_path: Path) -> None:
    volume = sitk.Image([4, 3, 2], sitk.sitkInt16)
    volume[0, 0, 1] = 7
    volume.SetSpacing([1.0, 2.0, 3.0])
    volume.SetOrigin([5.0, 6.0, 7.0])
    stacked = sitk.ReadImage(str(volumes.stack(volume, 5, tmp_path / "stacked.nii.gz")))
    assert stacked.GetSize() == (4, 3, 5)
    assert stacked.GetSpacing() == volume.GetSpacing()
    assert stacked.GetOrigin() == volume.GetOrigin()
    assert [stacked[0, 0, k] for k in range(5)] == [0, 7, 0, 7, 0]


def test_weights_are_averaged_and_rounded(tmp_path: Path, monkeypatch) -> None:
    """Each of three counts as much as the others; rounding keeps shared kernels shared, and the file loads."""
    trained = []
    for seed in range(3):
        torch.manual_seed(seed)
        trained.append(R2UNet(in_channels=1).state_dict())
        torch.save(trained[-1], tmp_path / f"{seed}.pt")
    out = tmp_path / "mean.pt"
    monkeypatch.setattr(sys, "argv", ["average_weights.py", *(str(tmp_path / f"{i}.pt") for i in range(3)), str(out)])
    average_weights.main()
    mean = torch.load(out, weights_only=True)
    for name, value in mean.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, torch.stack([each[name] for each in trained]).mean(0))

    half = tmp_path / "half.pt"
    monkeypatch.setattr(sys, "argv", ["average_weights.py", "--half", str(out), str(half)])
    average_weights.main()
    assert half.stat().st_size < 0.52 * out.stat().st_size
    network = R2UNet(in_channels=1)
    network.load_state_dict(torch.load(half, weights_only=True))
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, mean[name], rtol=1e-3, atol=1e-6)
