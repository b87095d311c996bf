"""What a GPU would bring out, emulated on the CPU: full, broken and older cards, and what surrounds the network."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from monai_r2unet.apps.cli.doctor import examine, format_examination
from monai_r2unet.apps.worker.protocol import Request
from monai_r2unet.apps.worker.runner import _explain
from monai_r2unet.errors import InputError
from monai_r2unet.inference import devices, inferers, precision
from monai_r2unet.inference.devices import choose_device, list_devices
from monai_r2unet.inference.inferers import MixedPrecisionInferer, SliceBySliceInferer
from monai_r2unet.inference.precision import fastest_type, run_exact
from monai_r2unet.networks.devices import copy_on_cpu, is_out_of_memory
from tests.helpers.bundle_runs import REPOSITORY

GIB = 2**30


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of two GPUs is another process' own."""

    def memory(index: int) -> tuple[int, int]:
        if index == 0:
            raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nmore lines")
        return 3 * GIB, 8 * GIB

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"Card {index}")
    monkeypatch.setattr(torch.cuda, "mem_get_info", memory)


def test_a_card_that_does_not_answer_is_listed_as_unusable(two_cards: None) -> None:
    first, second, cpu = list_devices()
    assert first == {
        "id": "cuda:0",
        "name": "Card 0, unusable: CUDA error: CUDA-capable device(s) is/are busy or unavailable",
    }
    assert second == {"id": "cuda:1", "name": "Card 1", "free_bytes": 3 * GIB, "total_bytes": 8 * GIB}
    assert cpu == {"id": "cpu", "name": "CPU"}
    lines = format_examination(examine()).splitlines()
    assert "device    cuda:1 Card 1, 3.0 of 8.0 GiB free" in lines
    assert any(line.startswith("device    cuda:0 Card 0, unusable: ") for line in lines)


def test_auto_takes_the_first_card_that_works(two_cards: None, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {0}

    def probe(device: torch.device) -> torch.device:
        if device.index in broken:
            raise InputError(f"device {device} cannot be used here (no kernel image is available)")
        return device

    monkeypatch.setattr(devices, "working_device", probe)
    with pytest.warns(UserWarning, match="a GPU is left out: device cuda:0 cannot be used here"):
        assert choose_device() == torch.device("cuda", 1)
    broken.add(1)
    with pytest.warns(UserWarning, match="cuda:1"):
        assert choose_device() == torch.device("cpu")
    broken.clear()
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert choose_device() == torch.device("cuda", 1)


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "GET was unable to find an engine to execute this computation",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
        "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory",
        "Failed to allocate memory for requested buffer of size 16384",
    ],
)
def test_full_memory_is_known_whoever_says_it(words: str) -> None:
    error = RuntimeError(words)
    assert is_out_of_memory(error)
    assert _explain(error, Request("lung", "a.nii.gz", "b.nii.gz"))[0] == "memory"
    assert not is_out_of_memory(ValueError(words))


def test_other_faults_of_a_card_are_not_taken_for_full_memory() -> None:
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))
    assert not is_out_of_memory(RuntimeError("CUDA error: no kernel image is available for execution on the device"))


class Net(nn.Module):
    """A convolution that cannot take more than so many images at a time."""

    def __init__(self, most: int = 100) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)
        self.most = most
        self.batches: list[int] = []
        self.precisions: set[str] = set()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        self.precisions.add(torch.backends.cudnn.conv.fp32_precision)
        if len(images) > self.most:
            raise RuntimeError("CUDA error: out of memory")
        result: torch.Tensor = self.layer(images)
        return result


def test_float32_is_float32_whatever_surrounds_it() -> None:
    network, volume = Net(), torch.rand(1, 1, 32, 32, 3)
    inferer = SliceBySliceInferer(None, threshold=None, float32=True)
    expected = inferer(volume, network)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(inferer(volume, network), expected, rtol=0, atol=0)
    before = torch.backends.cudnn.conv.fp32_precision
    assert network.precisions <= {"ieee", "none"}  # either is without TF32
    with pytest.raises(RuntimeError, match="boom"):
        run_exact(lambda images: (_ for _ in ()).throw(RuntimeError("boom")), volume[..., 0])
    assert torch.backends.cudnn.conv.fp32_precision == before != "ieee"


def test_a_batch_that_fitted_is_remembered_for_the_next_volume() -> None:
    network = Net(most=2)
    inferer = SliceBySliceInferer(None, batch_size=8)
    volume = torch.rand(1, 1, 32, 32, 8)
    expected = SliceBySliceInferer(None)(volume, Net().requires_grad_(False).eval().to("cpu")).shape
    assert inferer(volume, network).shape == expected
    assert network.batches == [8, 4, 2, 2, 2, 2]
    network.batches.clear()
    inferer(volume, network)
    assert network.batches == [2, 2, 2, 2]
    network.batches.clear()
    inferer(torch.rand(1, 1, 24, 24, 8), network)  # smaller slices may fit
    assert network.batches[0] == 8
    assert inferer.batch_size == 8


@pytest.mark.parametrize(("slices", "batches"), [(8, [3, 3, 3]), (1, [3])])
def test_a_smaller_last_batch_is_filled_where_the_size_chooses_the_kernel(
    slices: int, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Net()
    inferer = SliceBySliceInferer(None, threshold=None, batch_size=3)
    volume = torch.rand(1, 1, 16, 16, slices)
    expected = inferer(volume, network)
    network.batches.clear()
    monkeypatch.setattr(inferers, "KERNELS_BY_BATCH", ("cpu",))
    torch.testing.assert_close(inferer(volume, network), expected, rtol=0, atol=1e-6)
    assert network.batches == batches


def test_photographs_are_not_filled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inferers, "KERNELS_BY_BATCH", ("cpu",))
    network = Net()
    SliceBySliceInferer(None, batch_size=3, fov_diameter=16)(torch.rand(1, 1, 16, 16), network, scale=[1.0])
    assert network.batches == [1]


def test_the_copy_for_the_cpu_takes_no_memory_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
    network.requires_grad_(False)

    def full(*_: Any) -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(nn.Parameter, "__deepcopy__", full)
    monkeypatch.setattr(torch.Tensor, "__deepcopy__", full)
    copied = copy_on_cpu(network)
    images = torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(copied(images), network(images), rtol=0, atol=0)
    assert not {id(one) for one in copied.parameters()} & {id(one) for one in network.parameters()}
    assert not next(copied.parameters()).requires_grad


def test_the_fastest_type_is_that_of_the_device_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[int | None] = [0]

    @contextlib.contextmanager
    def device(chosen: torch.device) -> Iterator[None]:
        current.append(chosen.index)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: current[-1] == 1)
    assert fastest_type(torch.device("cuda", 0)) == torch.float16
    assert fastest_type(torch.device("cuda", 1)) == torch.bfloat16


def test_training_uses_no_float16_and_no_scaler_that_a_checkpoint_would_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in sorted(Path(REPOSITORY, "bundles").glob("*/configs/*.json")):
        text = path.read_text(encoding="utf-8")
        assert '"amp": "' not in text, path
        if path.name == "train.json":
            inferer = json.loads(text)["train"]["inferer"]
            assert inferer == {"_target_": "monai_r2unet.inference.inferers.MixedPrecisionInferer"}
    seen: list[torch.dtype] = []

    def network(images: torch.Tensor) -> torch.Tensor:
        seen.append(nn.functional.conv2d(images, torch.ones(1, 1, 1, 1)).dtype)
        return images

    for fastest, expected in ((torch.bfloat16, torch.bfloat16), (torch.float16, torch.float32)):
        for module in (inferers, precision):
            monkeypatch.setattr(module, "fastest_type", lambda _, fastest=fastest: fastest)
        MixedPrecisionInferer()(torch.rand(1, 1, 8, 8), network)
        assert seen.pop() == expected
