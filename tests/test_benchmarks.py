"""The benchmarks run, their peers are what they are called, and every table is that of its result file."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import SimpleITK as sitk
import torch

from monai_r2unet.networks import R2UNet


@pytest.fixture
def module(repository: Path, monkeypatch: pytest.MonkeyPatch):
    """Import a module of benchmarks/, which is a folder of scripts and not a package."""
    monkeypatch.syspath_prepend(repository / "benchmarks")

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def test_tables_are_those_of_the_result_files(module, repository: Path) -> None:
    tables = module("tables")
    found = []
    for name in tables.FILES:
        text = (repository / name).read_text(encoding="utf-8")
        assert tables.fill(text) == text, f"{name}: run python benchmarks/tables.py"
        found += [table for table in tables.TABLES if f"<!-- results: {table} -->" in text]
    assert sorted(found) == sorted(tables.TABLES)


def test_every_part_runs_and_fills_its_table(module, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("LUNGMASK_PYTHON", raising=False)
    parts = ["cpu", "training", "memory", "end_to_end"]
    monkeypatch.setattr(sys, "argv", ["speed.py", *parts, "--tiny", "--results", str(tmp_path)])
    module("speed").main()

    cpu = json.loads((tmp_path / "speed_cpu.json").read_text())
    # Parameters of the small network are in docs/networks.md; the two unrollings differ in nothing but their work.
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

    speed_tables = module("speed_tables")
    monkeypatch.setattr(speed_tables, "RESULTS", tmp_path)
    for part, table in speed_tables.TABLES.items():
        if part != "speed_gpu":
            assert table().startswith("| ")


def test_the_gpu_part_runs_where_there_is_none(module, tmp_path: Path, monkeypatch) -> None:
    result = module("gpu").measure_speed(tiny=True, device="cpu")
    assert set(result["seconds_per_slice"]) == {"1", "2"}
    # The head alone reads 16 maps and writes one of 64x64 float32.
    assert result["bytes_per_slice"]["float32"] > 17 * 64 * 64 * 4
    assert result["bytes_per_slice"]["bfloat16"] < result["bytes_per_slice"]["float32"]
    assert result["volume"]["size"] == [256, 256, 2]
    (tmp_path / "speed_gpu.json").write_text(json.dumps({**module("measure").machine(), **result}))
    speed_tables = module("speed_tables")
    monkeypatch.setattr(speed_tables, "RESULTS", tmp_path)
    assert speed_tables.gpu().startswith("| batch | float32")


def test_speed_refuses_to_keep_tiny_figures(module, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["speed.py", "cpu", "--tiny"])
    with pytest.raises(SystemExit, match="2"):
        module("speed").main()
    assert "--results" in capsys.readouterr().err


def test_naive_unrolling_computes_what_ours_computes(module) -> None:
    naive, ours = module("peers").naive_r2unet(channels=(4, 8)), R2UNet(channels=(4, 8))
    naive.load_state_dict(ours.state_dict())
    image = torch.rand(2, 1, 16, 16)
    assert torch.equal(naive(image), ours(image))


def test_one_kernel_form_convolves_once_more_than_it_recurs(module) -> None:
    peers, gflop = module("peers"), module("measure").gflop
    layer, image = peers.OneKernelRecurrence(8, recurrences=2), torch.rand(1, 8, 16, 16)
    assert gflop(layer, image) == pytest.approx(3 * gflop(layer.step[0], image))
    assert peers.OneKernelR2UNet()(torch.rand(2, 1, 32, 32)).shape == (2, 1, 32, 32)


def test_rounds_take_turns_and_the_first_is_not_kept(module) -> None:
    order: list[str] = []
    jobs = {name: lambda name=name: order.append(name) for name in "abc"}
    samples = module("measure").interleaved(jobs, rounds=2)
    assert "".join(order) == "abcbcacab"
    assert {name: len(kept) for name, kept in samples.items()} == {"a": 2, "b": 2, "c": 2}


def test_memory_of_a_process_is_its_own(module) -> None:
    run_process = module("measure").run_process
    held = torch.ones(100_000_000)  # of this process, 400 MB
    small = run_process([sys.executable, "-S", "-c", "pass"])
    large = run_process([sys.executable, "-S", "-c", "x = b'1' * 200_000_000"])
    assert held.sum() == 100_000_000
    assert small["peak_bytes"] < 50e6
    assert 200e6 < large["peak_bytes"] < 250e6
    with pytest.raises(RuntimeError, match="no such luck"):
        run_process([sys.executable, "-S", "-c", "raise SystemExit('no such luck')"])


def test_stacking_repeats_the_slices_on_the_same_grid(module, tmp_path: Path) -> None:
    volume = sitk.Image([4, 3, 2], sitk.sitkInt16)
    volume[0, 0, 1] = 7
    volume.SetSpacing([1.0, 2.0, 3.0])
    volume.SetOrigin([5.0, 6.0, 7.0])
    stacked = sitk.ReadImage(str(module("volumes").stack(volume, 5, tmp_path / "stacked.nii.gz")))
    assert stacked.GetSize() == (4, 3, 5)
    assert stacked.GetSpacing() == volume.GetSpacing()
    assert stacked.GetOrigin() == volume.GetOrigin()
    assert [stacked[0, 0, k] for k in range(5)] == [0, 7, 0, 7, 0]


def test_weights_are_averaged_and_rounded(module, tmp_path: Path, monkeypatch) -> None:
    """Each of three counts as much as the others; rounding keeps shared kernels shared, and the file loads."""
    trained = []
    for seed in range(3):
        torch.manual_seed(seed)
        trained.append(R2UNet(in_channels=1).state_dict())
        torch.save(trained[-1], tmp_path / f"{seed}.pt")
    out = tmp_path / "mean.pt"
    monkeypatch.setattr(sys, "argv", ["average_weights.py", *(str(tmp_path / f"{i}.pt") for i in range(3)), str(out)])
    module("average_weights").main()
    mean = torch.load(out, weights_only=True)
    for name, value in mean.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, torch.stack([each[name] for each in trained]).mean(0))

    half = tmp_path / "half.pt"
    monkeypatch.setattr(sys, "argv", ["average_weights.py", "--half", str(out), str(half)])
    module("average_weights").main()
    assert half.stat().st_size < 0.52 * out.stat().st_size
    network = R2UNet(in_channels=1)
    network.load_state_dict(torch.load(half, weights_only=True))
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, mean[name], rtol=1e-3, atol=1e-6)
