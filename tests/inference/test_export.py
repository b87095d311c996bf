"""Exported networks return torch's result in every engine; one sentence says why a network cannot be exported."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.bundle import trt_export
from monai.data import load_net_with_metadata
from torch import nn

from benchmarks import export_parity
from monai_r2unet import Segmenter
from monai_r2unet.apps.cli.main import main
from monai_r2unet.bundle import Bundle
from monai_r2unet.errors import InputError
from monai_r2unet.files import sha256
from monai_r2unet.images.reading import read_image
from monai_r2unet.inference.config import InferenceConfig
from monai_r2unet.inference.engines import ONNXRuntimeNetwork, check_engine, with_engine
from monai_r2unet.inference.export import TOLERANCE, export_network, onnx_session, run_onnx, to_torchscript
from monai_r2unet.inference.inferers import SliceBySliceInferer
from monai_r2unet.inference.precision import fastest_type
from monai_r2unet.networks import AttentionR2UNet, R2UNet
from monai_r2unet.networks.weights import load_weights
from tests.helpers.lung_examples import LUNG, copy_bundle, small_ct

SLICES = (8, 11)  # of the sample: the middle of the chest


for package in ("onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason='export is not tested without pip install "monai-r2unet[export]"')


@pytest.fixture
def tiny(tmp_path: Path) -> Bundle:
    """The lung bundle with a network of a moment, and random weights."""
    bundle = Bundle(copy_bundle(tmp_path / "bundles") / "lung")
    path = bundle.root / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["network_def"] |= {"channels": [4, 8], "recurrences": 1}
    path.write_text(json.dumps(config))
    torch.manual_seed(0)
    torch.save(R2UNet(channels=(4, 8), recurrences=1).state_dict(), bundle.weights)
    return bundle


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(1)
    return R2UNet(channels=(4, 8), recurrences=1, out_channels=2).eval()


def values(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


# ---- a real case -----------------------------------------------------------------------------------------------------


def test_masks_of_a_real_case_are_those_of_torch() -> None:
    """At most one voxel in 100,000 differs; the result file has the count for a complete chest."""
    ct = read_image(LUNG / "sample" / "images" / "LCTSC_008.nii.gz")[:, :, slice(*SLICES)]
    kept = json.loads(export_parity.RESULT.read_text())
    assert kept["weights_sha256"] == Bundle(LUNG).weights_sha256, "run python -m benchmarks.export_parity"
    for counted in (export_parity.count(ct), kept):
        assert 0.02 < counted["lung_voxels"] / counted["voxels"] < 0.5
        assert set(counted["differing_voxels"]) == {"onnxruntime", "torchscript"}
        for engine, differing in counted["differing_voxels"].items():
            assert differing <= counted["voxels"] / 100_000, engine


# ---- the files -------------------------------------------------------------------------------------------------------


def test_an_exported_bundle_needs_nothing_but_its_file(
    tiny: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    network = InferenceConfig(tiny.root, "cpu").part("network_def").eval()
    load_weights(network, tiny.weights)
    for name in ("network.onnx", "network.ts"):
        file = tmp_path / name
        assert main(["export", str(tiny.root), str(file), "--trust-bundle"]) == 0
        shown, _, said = capsys.readouterr().out.rstrip().partition("\t")
        assert shown == str(file)
        assert float(said.split()[-4]) <= TOLERANCE
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"), providers=["CPUExecutionProvider"])
    loaded, metadata, extra = load_net_with_metadata(str(tmp_path / "network.ts"), more_extra_files=("inference.json",))
    for size in [(1, 1, 33, 47), (3, 1, 64, 20), (1, 1, 2, 2)]:  # none of them the one exported with
        image = torch.rand(size)
        with torch.no_grad():
            expected = network(image)
        (logits,) = session.run(["pred"], {"image": image.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(loaded.eval()(image), expected, rtol=0, atol=1e-5)

    # TorchScript neither.
    program = "import sys, torch; torch.jit.load(sys.argv[1])(torch.rand(1, 1, 9, 9)); print('monai' in sys.modules)"
    arguments = [sys.executable, "-I", "-W", "ignore", "-c", program, str(tmp_path / "network.ts")]
    assert subprocess.run(arguments, capture_output=True, text=True, check=True).stdout == "False\n"

    # What is inside tells where it comes from.
    embedded = json.loads(session.get_modelmeta().custom_metadata_map["metadata.json"])
    for kept in (embedded, metadata):
        assert kept["weights"]["sha256"] == sha256(tiny.weights)
        assert kept["intended_use"] == tiny.metadata["intended_use"]
    assert json.loads(extra["inference.json"]) == json.loads((tiny.root / "configs" / "inference.json").read_text())
    assert [axis if isinstance(axis, int) else "any" for axis in session.get_inputs()[0].shape] == [
        "any",
        1,
        "any",
        "any",
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"bundles", "network.onnx", "network.ts"}


def test_own_weights_are_exported_and_named(tiny: Bundle, tmp_path: Path) -> None:
    torch.manual_seed(5)
    other = R2UNet(channels=(4, 8), recurrences=1).eval()
    torch.save(other.state_dict(), tmp_path / "own.pt")
    export_network(tiny.root, tmp_path / "own.ts", tmp_path / "own.pt", trust_bundle=True)
    loaded, metadata, _ = load_net_with_metadata(str(tmp_path / "own.ts"))
    assert metadata["weights"] == {"sha256": sha256(tmp_path / "own.pt")}  # nothing that is said of the bundle's
    image = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(image), other(image))


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_what_cannot_be_exported_is_told_and_leaves_nothing(
    tiny: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there.ts").write_text("mine")
    (tmp_path / "short.pt").write_bytes(b"short")
    before = sorted(path.name for path in tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    root = str(tiny.root)
    for arguments, told in [
        ([root, "network.pt"], "unknown ending of network.pt, expected one of: .ts, .onnx"),
        ([root, "there.ts"], "there.ts exists already: choose another name, or replace it with --overwrite"),
        ([root, "none/network.ts"], "does not exist, so network.ts cannot be written: create it first"),
        ([root, "network.ts", "--weights", str(tmp_path / "short.pt")], "is not a file of tensors saved by torch"),
        ([root, "network.onnx"], 'pip install "monai-r2unet[export]"'),
        (["banana", "network.ts"], "unknown bundle 'banana'; available: chase_db1, drive, lung, skin, stare"),
    ]:
        bundle, output, *more = arguments
        assert main(["export", bundle, str(tmp_path / output), "--trust-bundle", *more]) == 2
        (sentence,) = capsys.readouterr().err.splitlines()
        assert sentence.startswith("error: ")
        assert told in sentence
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "there.ts").read_text() == "mine"


class AnyNumberOfInputs(nn.Module):
    def forward(self, *images: torch.Tensor) -> torch.Tensor:
        return images[0]


def test_a_network_that_torchscript_does_not_hold() -> None:
    with pytest.raises(InputError, match=r"AnyNumberOfInputs cannot be brought into TorchScript \(.+\): use") as caught:
        to_torchscript(AnyNumberOfInputs())
    assert "\n" not in str(caught.value)


def test_an_export_that_computes_something_else_is_not_kept(tiny: Bundle, tmp_path: Path, monkeypatch) -> None:
    other = R2UNet(channels=(4, 8), recurrences=1).eval()
    monkeypatch.setattr("monai_r2unet.inference.export.to_torchscript", lambda network: torch.jit.script(other))
    with pytest.raises(
        InputError, match=r"the exported R2UNet gives other logits than torch, by up to .* of the largest"
    ):
        export_network(tiny.root, tmp_path / "wrong.ts", trust_bundle=True)
    assert not list(tmp_path.glob("*wrong*"))


# ---- as engines ------------------------------------------------------------------------------------------------------


def test_neither_the_batch_nor_the_memory_layout_nor_autocast_changes_a_bit(network: nn.Module) -> None:
    engine, batch = ONNXRuntimeNetwork(network), torch.rand(3, 1, 20, 24)
    with torch.autocast("cpu", torch.bfloat16):
        expected = torch.cat([engine(one) for one in batch.split(1)])
    assert expected.dtype == torch.float32
    assert torch.equal(engine(batch), expected)
    assert torch.equal(engine(batch.contiguous(memory_format=torch.channels_last)), expected)
    with torch.no_grad():
        torch.testing.assert_close(expected, network(batch), rtol=0, atol=1e-5)
    with pytest.raises(InputError, match=r"ONNX Runtime cannot run this R2UNet on images of \(2, 20, 24\) \(.*\): use"):
        engine(torch.rand(1, 2, 20, 24))


def test_three_dimensions_and_two_channels() -> None:
    torch.manual_seed(2)
    network = AttentionR2UNet(3, in_channels=2, channels=(2, 4), recurrences=1, upsample="nontrainable").eval()
    image = torch.rand(2, 2, 9, 12, 7)
    with torch.no_grad():
        torch.testing.assert_close(ONNXRuntimeNetwork(network)(image), network(image), rtol=0, atol=1e-5)


def test_as_many_threads_as_torch_and_no_more_memory_than_there_is() -> None:
    from onnx import TensorProto, helper

    axes = ["n", "c", "h", "w"]
    image, pred = (helper.make_tensor_value_info(name, TensorProto.FLOAT, axes) for name in ("image", "pred"))
    shape = helper.make_tensor("shape", TensorProto.INT64, [4], [1, 1, 2**24, 2**24])
    nodes = [helper.make_node("Expand", ["image", "shape"], ["pred"])]
    model = helper.make_model(
        helper.make_graph(nodes, "expand", [image], [pred], [shape]),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        session = onnx_session(model.SerializeToString())
    finally:
        torch.set_num_threads(before)
    assert session.get_session_options().intra_op_num_threads == 2
    with pytest.raises(MemoryError):  # of a petabyte
        run_onnx(session, torch.zeros(1, 1, 1, 1))
    with pytest.raises(InputError, match="ONNX Runtime does not accept the network"):
        onnx_session(b"no model")


def test_a_segmenter_is_told_its_engine(tiny: Bundle) -> None:
    ct = small_ct(slices=2)
    made = {
        engine: Segmenter(tiny.root, "auto" if engine == "onnxruntime" else "cpu", engine=engine, trust_bundle=True)
        for engine in ("torch", "onnxruntime", "torchscript")
    }
    fast = str(fastest_type(torch.device("cpu"))).removeprefix("torch.")
    assert {name: (str(one.device), one.precision) for name, one in made.items()} == {
        "torch": ("cpu", fast),
        "onnxruntime": ("cpu", "float32"),
        "torchscript": ("cpu", fast),
    }
    np.testing.assert_array_equal(*(values(made[name](ct)) for name in ("torchscript", "torch")))
    with pytest.raises(InputError, match="'onnxruntime' runs on the CPU only, got device 'cuda:0': use"):
        check_engine("onnxruntime", "cuda:0")
    assert check_engine("torchscript", "cuda:0") == "cuda:0"


def test_torchscript_goes_wherever_its_network_is(network: nn.Module) -> None:
    engine = with_engine("torchscript", network, float32=True)
    volume = torch.rand(1, 1, 20, 24, 2)
    inferer = SliceBySliceInferer(16, threshold=None, float32=True)
    torch.testing.assert_close(inferer(volume, engine), inferer(volume, network), rtol=0, atol=1e-6)


# ---- TensorRT --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["chase_db1", "drive", "lung", "skin", "stare"])
def test_what_the_documented_command_gives_to_tensorrt(
    name: str, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command as the documentation has it, up to TensorRT itself, in whose place the network is scripted."""
    text = (repository / "docs" / "how-to" / "export.md").read_text()
    (command,) = re.findall(rf"^python -m monai.bundle trt_export (.* {name}_trt.ts .*)$", text, re.MULTILINE)
    words = iter(shlex.split(command))
    options: dict[str, Any] = {word.removeprefix("--"): next(words) for word in words}
    shape, batches = (json.loads(options.pop(key)) for key in ("input_shape", "dynamic_batchsize"))
    root = Bundle(repository / "bundles" / name)
    assert options["ckpt_file"] == f"bundles/{name}/models/model.pt"
    weights = tmp_path / "model.pt"
    torch.manual_seed(3)
    torch.save(InferenceConfig(root.root, "cpu").part("network_def").state_dict(), weights)
    given = {}

    def convert(model: nn.Module, **arguments: Any) -> torch.jit.ScriptModule:
        given.update(arguments)
        return torch.jit.script(model)

    monkeypatch.setattr("monai.bundle.scripts.convert_to_trt", convert)
    monkeypatch.chdir(repository)
    changed = {"ckpt_file": str(weights), "filepath": str(tmp_path / "trt.ts")}
    trt_export(**{**options, **changed, "input_shape": shape, "dynamic_batchsize": batches})
    assert (given["input_shape"], given["dynamic_batchsize"], given["precision"]) == (shape, batches, "fp16")
    assert shape[1] == root.image_format["num_channels"]
    assert shape[0] == batches[0] == 1
    loaded, metadata, _ = load_net_with_metadata(str(tmp_path / "trt.ts"))
    assert metadata["version"] == root.metadata["version"]
    assert loaded(torch.rand(1, shape[1], 16, 16)).shape == (1, 1, 16, 16)
    slice_size = json.loads((root.root / "configs" / "inference.json").read_text())["slice_size"]
    if slice_size is not None:
        assert shape[2:] == [slice_size, slice_size]
