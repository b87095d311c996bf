"""Weights and checkpoints: only complete files with matching tensors are loaded, and nothing in a file is executed."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from monai_r2unet.errors import InputError
from monai_r2unet.files import sha256
from monai_r2unet.networks import R2UNet, RUNet
from monai_r2unet.networks.weights import latest, load_weights


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.write_text, (self.target, "executed")


def network(seed: int) -> R2UNet:
    torch.manual_seed(seed)
    return R2UNet(channels=(4, 8))


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save(network(1).state_dict(), tmp_path / "model.pt")
    return tmp_path / "model.pt"


def test_weights_come_back_as_they_were_saved(weights: Path) -> None:
    loaded = network(2)
    assert not same_weights(loaded, network(1))
    load_weights(loaded, weights, sha256(weights))
    assert same_weights(loaded, network(1))


def test_sha256_is_that_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_wrong_checksum_is_found_before_the_file_is_opened(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights.write_bytes(weights.read_bytes() + b"\0")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("read before it was compared"))
    got = hashlib.sha256(weights.read_bytes()).hexdigest()
    with pytest.raises(
        InputError, match=rf"damaged weights: .*model\.pt has SHA-256 {got[:12]}.*expected 000000000000"
    ):
        load_weights(network(0), weights, "0" * 64)


def test_missing_weights_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"weights not found: .*none\.pt does not exist"):
        load_weights(network(0), tmp_path / "none.pt")
    with pytest.raises(InputError, match="weights not found"):
        load_weights(network(0), tmp_path)


@pytest.mark.parametrize("kind", ["text", "nothing", "cut in half", "malicious pickle", "malicious torch file"])
def test_files_that_are_no_weights_are_refused_without_executing_them(weights: Path, tmp_path: Path, kind: str) -> None:
    marker = tmp_path / "marker"
    match kind:
        case "text":
            weights.write_text("no weights")
        case "nothing":
            weights.write_bytes(b"")
        case "cut in half":
            weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
        case "malicious pickle":
            weights.write_bytes(pickle.dumps(Malicious(marker)))
        case _:
            torch.save({"head.weight": Malicious(marker)}, weights)
    before = network(3)
    with pytest.raises(InputError, match=r"damaged weights: .*model\.pt is not a file of tensors") as caught:
        load_weights(before, weights)
    assert "\n" not in str(caught.value)
    assert same_weights(before, network(3))
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        RUNet(channels=(4, 8), recurrences=3).state_dict(),
        R2UNet(channels=(8, 16)).state_dict(),
        {"model": network(1).state_dict(), "epoch": 3},
        {1: torch.zeros(1)},
        [torch.zeros(1)],
        torch.zeros(1),
        3,
    ],
    ids=["other network", "other channels", "checkpoint", "numbers as names", "list", "tensor", "number"],
)
def test_weights_of_another_network_do_not_fit(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"weights do not fit: .*the parameters of R2UNet"):
        load_weights(network(0), tmp_path / "model.pt")


def test_the_latest_checkpoint_is_the_newest_whole_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint to resume from"):
        latest(tmp_path / "missing")
    for age, epoch in ((30, 10), (20, 11), (10, 9)):  # newest by time, not by name
        path = tmp_path / f"checkpoint_epoch={epoch}.pt"
        torch.save({"epoch": epoch}, path)
        os.utime(path, (1e9 - age, 1e9 - age))
    assert latest(tmp_path) == str(tmp_path / "checkpoint_epoch=9.pt")
    path.write_bytes(path.read_bytes()[:-30])  # killed while it was written
    assert latest(tmp_path) == str(tmp_path / "checkpoint_epoch=11.pt")
    for whole in tmp_path.iterdir():
        whole.write_bytes(b"")
    with pytest.raises(InputError, match="no checkpoint to resume from"):
        latest(tmp_path)
