"""OpenVINO returns the same result as torch; one sentence says why it cannot run a network."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from monai_r2unet import Segmenter
from monai_r2unet.apps.cli.main import main
from monai_r2unet.apps.worker.protocol import request_of
from monai_r2unet.apps.worker.run import Run
from monai_r2unet.apps.worker.runner import Runner
from monai_r2unet.apps.worker.server import Worker
from monai_r2unet.errors import InputError
from monai_r2unet.images.grid import same_grid
from monai_r2unet.images.writing import write_image
from monai_r2unet.inference.engines import MOST_SIZES, OpenVINONetwork, check_engine, with_engine
from monai_r2unet.inference.inferers import SliceBySliceInferer
from monai_r2unet.inference.precision import fastest_type
from monai_r2unet.networks import AttentionR2UNet, R2UNet
from monai_r2unet.networks.weights import load_weights
from tests.helpers.lung_examples import LUNG, SIZE, copy_bundle, small_ct

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None,
    reason='OpenVINO is not installed, its engine is not tested: pip install "monai-r2unet[openvino]"',
)
BFLOAT16 = fastest_type(torch.device("cpu")) == torch.bfloat16


def random_network(seed: int = 0, kind: type[nn.Module] = R2UNet, **arguments: object) -> nn.Module:
    """A small network whose batch norms are not those of a fresh one, which would change nothing."""
    torch.manual_seed(seed)
    network = kind(**{"channels": (4, 8, 16), **arguments})
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network.eval()


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# ---- the same as torch -----------------------------------------------------------------------------------------------


@needs_openvino
@pytest.mark.parametrize(
    ("float32", "tolerance"),
    [(True, 1e-5), pytest.param(False, 0.1, marks=pytest.mark.skipif(not BFLOAT16, reason="no bfloat16 here"))],
)
def test_lungs_are_those_of_the_plain_network(float32: bool, tolerance: float) -> None:
    network = R2UNet(channels=(16, 32, 64, 128))
    load_weights(network, LUNG / "models" / "model.pt")
    ct = sitk.ReadImage(str(LUNG / "sample" / "images" / "LCTSC_008.nii.gz"))
    slices = sitk.GetArrayFromImage(ct)[ct.GetSize()[2] // 3 :: ct.GetSize()[2] // 3].astype(np.float32)
    window = ((torch.from_numpy(slices)[:, None] + 1000) / 1400).clamp(0, 1)
    with torch.no_grad():
        expected = torch.sigmoid(network.eval()(window))
    engine = OpenVINONetwork(network, float32=float32)
    got = torch.sigmoid(engine(window))
    torch.testing.assert_close(got, expected, rtol=0, atol=tolerance)
    mask, other = expected >= 0.5, got >= 0.5
    assert 0.02 < mask.float().mean() < 0.6
    assert 2 * (mask & other).sum() / (mask.sum() + other.sum()) >= 0.999
    if not float32:
        assert not torch.equal(got, torch.sigmoid(OpenVINONetwork(network, float32=True)(window)))  # it was bfloat16


@needs_openvino
@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (random_network(), (3, 1, 32, 32)),
        (random_network(in_channels=3, out_channels=2, recurrence="unshared"), (2, 3, 33, 47)),  # pads on its way up
        (random_network(kind=AttentionR2UNet, upsample="nontrainable", norm="INSTANCE"), (1, 1, 24, 40)),
        (random_network(spatial_dims=3), (2, 1, 16, 12, 8)),
    ],
)
def test_networks_of_all_kinds(network: nn.Module, shape: tuple[int, ...]) -> None:
    engine = OpenVINONetwork(network, float32=True)
    with torch.no_grad():
        torch.testing.assert_close(engine(images(*shape)), network(images(*shape)), rtol=1e-4, atol=1e-4)


@needs_openvino
def test_neither_the_batch_nor_the_memory_layout_nor_autocast_changes_a_bit() -> None:
    network, batch = random_network(in_channels=3, channels=(4, 8)), images(5, 3, 32, 24)
    engine = OpenVINONetwork(network)
    expected = torch.cat([engine(one) for one in batch.split(1)])
    assert torch.equal(engine(batch), expected)
    assert torch.equal(engine(batch.contiguous(memory_format=torch.channels_last)), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(OpenVINONetwork(network)(batch), expected)
    assert torch.equal(OpenVINONetwork(network)(batch), expected)


@needs_openvino
def test_a_few_sizes_stay_compiled() -> None:
    engine = OpenVINONetwork(nn.Conv2d(1, 2, 3))
    first = engine(images(1, 1, 16, 16))
    built = engine._compiled[1, 1, 16, 16]
    for rows in range(8, 8 + 2 * MOST_SIZES, 2):
        engine(images(2, 1, rows, 18))
        assert torch.equal(engine(images(1, 1, 16, 16)), first)
    assert len(engine._compiled) == MOST_SIZES
    assert engine._compiled[1, 1, 16, 16] is built
    assert (1, 1, 8, 18) not in engine._compiled


@needs_openvino
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the cores of a process can be counted on Linux only")
def test_as_many_threads_as_torch() -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            engine = OpenVINONetwork(nn.Conv2d(1, 2, 3))
            engine(images(1, 1, 16, 16))
            (compiled,) = engine._compiled.values()
            assert compiled.get_property("INFERENCE_NUM_THREADS") == min(threads, len(os.sched_getaffinity(0)))
    finally:
        torch.set_num_threads(before)


@needs_openvino
def test_inferers_take_it_for_the_network() -> None:
    network = random_network(out_channels=2)
    engine = with_engine("openvino", network, float32=True)
    volume = images(1, 1, 40, 33, 3)
    for inferer in (
        SliceBySliceInferer(32, batch_size=2, threshold=None, float32=True),
        SliceBySliceInferer(None, threshold=None, float32=True, window=SlidingWindowInferer(16, sw_batch_size=4)),
    ):
        torch.testing.assert_close(inferer(volume, engine), inferer(volume, network), rtol=0, atol=1e-4)
    assert with_engine("torch", network, float32=False) is network


# ---- from end to end -------------------------------------------------------------------------------------------------


@needs_openvino
def test_the_segmenter_gives_the_same_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy_bundle(tmp_path)
    monkeypatch.setattr("monai_r2unet.bundle._bundles_folder", lambda: folder)
    ct = small_ct()
    by_torch, by_openvino = (
        Segmenter("lung", "cpu", float32=True, engine=engine)(ct, probabilities=True)
        for engine in ("torch", "openvino")
    )
    for theirs, ours in zip(by_torch, by_openvino, strict=True):
        assert same_grid(ours, ct)
        np.testing.assert_allclose(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs), atol=1e-3)
    fast = Segmenter("lung", batch_size=3, engine="openvino")
    assert (str(fast.device), fast.precision) == ("cpu", "bfloat16" if BFLOAT16 else "float32")
    masks = [sitk.GetArrayFromImage(fast(ct)) for _ in range(2)]
    masks.append(sitk.GetArrayFromImage(Segmenter("lung", batch_size=1, engine="openvino")(ct)))
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0], masks[2])
    assert list(fast.network._compiled) == [(1, 1, SIZE, SIZE)]


@needs_openvino
def test_the_command_line_says_nothing_more_and_reports_the_engine(tmp_path: Path) -> None:
    """In a process of its own, which must not report to anyone either: the engine's makers keep that in the home."""
    ct = sitk.ReadImage(str(LUNG / "sample" / "images" / "LCTSC_008.nii.gz"))
    middle = ct.GetSize()[2] // 2
    write_image(ct[:, :, middle : middle + 1], tmp_path / "ct.nrrd")
    (tmp_path / "home").mkdir()
    arguments = ["ct.nrrd", "mask.nrrd", "--bundle", "lung", "--engine", "openvino", "--report", "report.json"]
    code = (
        "import sys; from monai_r2unet.apps.cli.main import main; code = main(sys.argv[1:]); "
        "assert 'openvino' in sys.modules and not [name for name in sys.modules if 'openvino_telemetry' in name]; "
        "sys.exit(code)"
    )
    homes = {"HOME": str(tmp_path / "home"), "USERPROFILE": str(tmp_path / "home"), "PYTHONWARNINGS": "default"}
    done = subprocess.run(
        [sys.executable, "-c", code, "segment", *arguments],
        cwd=tmp_path,
        env={**os.environ, **homes, "PYTHONPATH": os.pathsep.join([str(LUNG.parents[1]), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower().replace("deprecationwarning", "")
    assert not list((tmp_path / "home").rglob("*openvino*"))
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["engine"] == "openvino"
    assert report["device"] == "cpu"
    assert report["versions"]["openvino"]


@needs_openvino
def test_the_worker_loads_anew_for_another_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy_bundle(tmp_path)
    monkeypatch.setattr("monai_r2unet.bundle._bundles_folder", lambda: folder)
    write_image(small_ct(slices=2), tmp_path / "ct.nrrd")
    runner, worker = Runner(), Worker(0, io.BytesIO())  # which is not listening
    for number, engine in enumerate([{"engine": "openvino"}, {}, {"engine": "tensorrt"}], start=1):
        files = {"input": str(tmp_path / "ct.nrrd"), "output": str(tmp_path / f"{number}.nrrd")}
        run = request_of({"cmd": "run", "bundle": "lung", **files, **engine})
        event, content = runner.do(Run(run, worker, number))
        if number < 3:
            assert event == "done", content
            assert runner.loaded is not None
            assert runner.loaded[1].engine == ("openvino", "torch")[number - 1]
    assert (event, content["code"]) == ("error", "input")
    assert content["message"] == "unknown engine 'tensorrt'; available: torch, openvino, onnxruntime, torchscript"


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_unknown_engines_and_devices_are_refused() -> None:
    with pytest.raises(InputError, match=r"unknown engine 'banana'; available: torch, openvino, .*, torchscript$"):
        Segmenter("lung", "cpu", engine="banana")
    for device in ("cuda:0", "cuda", "mps"):
        with pytest.raises(InputError, match=f"'openvino' runs on the CPU only, got device '{device}': use"):
            check_engine("openvino", device)
        assert check_engine("torch", device) == device
    assert check_engine("torch", "auto") == "auto"
    assert check_engine("openvino", "auto") == check_engine("openvino", "cpu") == "cpu"


def test_where_openvino_is_not_installed_the_command_line_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    write_image(small_ct(slices=1), tmp_path / "ct.nrrd")
    command = ["segment", str(tmp_path / "ct.nrrd"), str(tmp_path / "mask.nrrd"), "--bundle", "lung"]
    assert main([*command, "--engine", "openvino"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("error: the engine 'openvino' is not installed (")
    assert told.endswith('): pip install "monai-r2unet[openvino]"')
    assert not (tmp_path / "mask.nrrd").exists()


@needs_openvino
def test_a_network_that_cannot_be_run_is_refused() -> None:
    engine = OpenVINONetwork(random_network())
    with pytest.raises(
        InputError, match=r"OpenVINO cannot run this R2UNet on images of \(2, 32, 32\) \(.*\): use"
    ) as e:
        engine(images(1, 2, 32, 32))
    assert "\n" not in str(e.value)


@needs_openvino
def test_full_memory_is_no_fault_of_the_network() -> None:
    class Full(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise MemoryError

    with pytest.raises(MemoryError):
        OpenVINONetwork(Full())(images(1, 1, 8, 8))
