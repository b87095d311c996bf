"""The five networks: their parameters, the paper's equations written out, sizes, export, learning, registration."""

from __future__ import annotations

import doctest
import io
import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import monai.networks.nets
import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from monai.bundle.config_item import ComponentLocator
from torch.nn import functional

import monai_r2unet
from monai_r2unet.networks import AttentionR2UNet, ForwardUNet, R2UNet, ResUNet, RUNet, nets
from monai_r2unet.networks.blocks import freeze_batch_norm

FIVE = [ForwardUNet, RUNet, ResUNet, R2UNet, AttentionR2UNet]
SMALL, LARGE = (16, 32, 64, 128), (64, 128, 256, 512)  # the paper's
TINY = (4, 8, 16)
SPELLINGS = ["R2UNet", "monai_r2unet.networks.nets.R2UNet", "monai.networks.nets.R2UNet"]

each_network = pytest.mark.parametrize("network_class", FIVE)


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def count_without_making(network_class: type[torch.nn.Module], **options: Any) -> int:
    with torch.device("meta"):
        return count(network_class(**options))


# ---- parameters ------------------------------------------------------------------------------------------------------

# At 16-32-64-128 with t = 2 and 3, then at 64-128-256-512 with t = 2 and 3.
PARAMETERS = {
    "ForwardUNet": (482_449, 482_449, 7_699_009, 7_699_009),
    "RUNet": (973_713, 975_121, 15_525_441, 15_531_073),
    "ResUNet": (554_865, 554_865, 8_854_977, 8_854_977),
    "R2UNet": (1_046_129, 1_047_537, 16_681_409, 16_687_041),
    "AttentionR2UNet": (1_051_906, 1_053_314, 16_769_002, 16_774_634),
}
# Readings of the recurrence at 16-32-64-128, with t = 2 and 3.
READINGS: list[tuple[str, dict[str, Any], tuple[int, int]]] = [
    ("R2UNet()", {}, (1_046_129, 1_047_537)),
    ("R2UNet(norm_per_step=False)", {"norm_per_step": False}, (1_043_313, 1_043_313)),
    ('R2UNet(recurrence="tied")', {"recurrence": "tied"}, (557_681, 559_089)),
    (
        'R2UNet(recurrence="tied", norm_per_step=False)',
        {"recurrence": "tied", "norm_per_step": False},
        (554_865, 554_865),
    ),
    ('R2UNet(recurrence="unshared")', {"recurrence": "unshared"}, (1_534_577, 2_024_433)),
    ('R2UNet(recurrence="unshared", layers=1)', {"recurrence": "unshared", "layers": 1}, (799_793, 1_044_721)),
]


@each_network
def test_parameters_at_the_sizes_of_the_paper(network_class: type[torch.nn.Module]) -> None:
    counts = tuple(
        count_without_making(network_class, channels=channels, recurrences=t)
        for channels, t in itertools.product((SMALL, LARGE), (2, 3))
    )
    assert counts == PARAMETERS[network_class.__name__]


@pytest.mark.parametrize(("options", "expected"), [(options, counts) for _, options, counts in READINGS])
def test_parameters_of_the_readings_of_the_recurrence(options: dict[str, Any], expected: tuple[int, int]) -> None:
    assert (count(R2UNet(recurrences=2, **options)), count(R2UNet(recurrences=3, **options))) == expected


def test_parameters_in_3d_and_with_five_stages() -> None:
    assert count(R2UNet(spatial_dims=3)) == 3_042_929
    assert count(R2UNet(channels=(16, 32, 64, 128, 256))) == 4_196_977


def test_the_keras_summary_is_a_resunet() -> None:
    network = ResUNet(in_channels=3, channels=(64, 128, 256, 512, 1024), residual="shortcut", bias=True)
    running = sum(values.numel() for name, values in network.named_buffers() if "running_" in name)
    assert (count(network), running, count(network) + running) == (32_445_185, 17_664, 32_462_849)


def test_no_reading_gives_both_rows_of_the_papers_table_iv() -> None:
    table_iv = (845_000, 1_037_000)
    kinds: list[tuple[type[torch.nn.Module], dict[str, Any]]] = [
        (network_class, {"recurrence": recurrence, "residual": residual, "layers": layers})
        for network_class, recurrence, residual, layers in itertools.product(
            (RUNet, R2UNet), ("shared", "tied", "unshared"), ("input", "shortcut"), (1, 2)
        )
        if recurrence != "tied" or (network_class is R2UNet and residual == "input")
    ]

    def deviation(network_class: type[torch.nn.Module], options: dict[str, Any]) -> float:
        counts = [count_without_making(network_class, recurrences=t, **options) for t in (2, 3)]
        return max(abs(found / printed - 1) for found, printed in zip(counts, table_iv, strict=True))

    nearest = min(kinds, key=lambda kind: deviation(*kind))
    assert nearest == (R2UNet, {"recurrence": "unshared", "residual": "input", "layers": 1})
    assert deviation(*nearest) == pytest.approx(0.0535, abs=0.0001)
    found = [count_without_making(R2UNet, recurrence="unshared", layers=1, recurrences=t) for t in (2, 3)]
    assert [round(100 * (a / b - 1)) for a, b in zip(found, table_iv, strict=True)] == [-5, 1]
    assert round(100 * (table_iv[1] / table_iv[0] - 1)) == 23


def test_no_kernel_per_step_explains_the_difference_of_the_rows_of_table_iv() -> None:
    def added(stages: tuple[int, ...], kernels: int, extras: int = 0) -> int:
        """Parameters that one more step adds: 3x3 kernels of f to f maps, ``extras`` biases or norm weights a map."""
        return kernels * sum(9 * f * f + extras * f for f in stages)

    encoder, bottom, decoder = (16, 32, 64), (128,), (64, 32, 16)
    assert added(encoder + bottom + decoder, 1) == 244_224
    assert added(encoder + bottom, 1) == 195_840
    assert added(encoder + decoder, 2) == 193_536
    for used in itertools.product((True, False), repeat=3):
        stages = sum(itertools.compress((encoder, bottom, decoder), used), ())
        for kernels, extras in itertools.product(range(1, 9), range(4)):
            assert not 191_000 <= added(stages, kernels, extras) <= 193_000


def test_the_documentation_prints_these_numbers(repository: Path) -> None:
    text = (repository / "docs" / "explanation" / "networks.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (`.+?`)[^|]*\|(.*)$", text, flags=re.MULTILINE))

    def numbers(line: str) -> list[int]:
        return [int(number.replace(",", "")) for number in re.findall(r"\d{1,3}(?:,\d{3})+", line)]

    for name, counts in PARAMETERS.items():
        assert numbers(rows[f"`{name}`"]) == list(counts)
    for name, _, reading in READINGS:
        assert numbers(rows[f"`{name}`"]) == list(reading)
    elsewhere = {3_042_929, 4_196_977, 32_462_849, 32_445_185, 17_664, 244_224, 195_840, 193_536, 1_047_537 - 1_046_129}
    in_tables = {n for counts in (*PARAMETERS.values(), *(counts for _, _, counts in READINGS)) for n in counts}
    assert set(numbers(text)) == in_tables | elsewhere


# ---- the paper's equations -------------------------------------------------------------------------------------------


class ByHand:
    """R2U-Net at four stages, written out from Eq. (1)-(3) with nothing but torch's functions.

    Args:
        weights: of the network under test, float64.
        t: the paper's t.
        training: normalise by the batch's statistics, not by the running ones.
    """

    def __init__(self, weights: dict[str, torch.Tensor], t: int, training: bool) -> None:
        self.weights = weights
        self.t = t
        self.training = training
        self.used: set[str] = set()

    def w(self, name: str) -> torch.Tensor:
        self.used.add(name)
        return self.weights[name]

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        if self.training:
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        else:
            mean, variance = self.weights[f"{name}.running_mean"], self.weights[f"{name}.running_var"]
        scale = self.w(f"{name}.weight") / torch.sqrt(variance + 1e-5)
        return (x - mean[:, None, None]) * scale[:, None, None] + self.w(f"{name}.bias")[:, None, None]

    def recurrent_layer(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """Eq. (1) and (2): w_f * x at every time step, plus w_r * h(t-1), one w_r for all."""
        forward = functional.conv2d(x, self.w(f"{name}.forward_conv.conv.weight"), padding=1)
        h = functional.relu(self.norm(forward, f"{name}.first_norm"))
        for step in range(self.t):
            recurrent = functional.conv2d(h, self.w(f"{name}.recurrent_convs.0.conv.weight"), padding=1)
            h = functional.relu(self.norm(forward + recurrent, f"{name}.recurrent_norms.{step}"))
        return h

    def unit(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """Eq. (3), once the channels are equal."""
        x = functional.conv2d(x, self.w(f"{name}.project.conv.weight"), self.w(f"{name}.project.conv.bias"))
        return x + self.recurrent_layer(self.recurrent_layer(x, f"{name}.layers.0"), f"{name}.layers.1")

    def up(self, x: torch.Tensor, skip: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = self.w(f"{name}.up.deconv.weight"), self.w(f"{name}.up.deconv.bias")
        larger = functional.conv_transpose2d(x, weight, bias, stride=2)
        padded = torch.zeros_like(skip)
        padded[..., : larger.shape[-2], : larger.shape[-1]] = larger
        return torch.cat([skip, padded], 1)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        first = self.unit(image, "stem")
        second = self.unit(functional.max_pool2d(first, 2), "encoders.0.1")
        third = self.unit(functional.max_pool2d(second, 2), "encoders.1.1")
        bottom = self.unit(functional.max_pool2d(third, 2), "encoders.2.1")
        x = self.unit(self.up(bottom, third, "ups.0"), "decoders.0")
        x = self.unit(self.up(x, second, "ups.1"), "decoders.1")
        x = self.unit(self.up(x, first, "ups.2"), "decoders.2")
        return functional.conv2d(x, self.w("head.weight"), self.w("head.bias"))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("t", [1, 2, 3])
def test_r2unet_is_the_equations_written_out(t: int, training: bool) -> None:
    torch.manual_seed(t)
    network = R2UNet(in_channels=2, channels=SMALL, recurrences=t).double()
    for name, values in [*network.named_parameters(), *network.named_buffers()]:
        if "norm" in name and values.is_floating_point():  # as after a training: neither 0 nor 1
            values.data.uniform_(0.5, 1.5)
    network.train(training)
    by_hand = ByHand({name: values.clone() for name, values in network.state_dict().items()}, t, training)
    image = torch.randn(2, 2, 21, 30, dtype=torch.float64)

    with torch.no_grad():
        torch.testing.assert_close(network(image), by_hand(image), rtol=1e-9, atol=1e-9)
    assert sum(by_hand.weights[name].numel() for name in by_hand.used) == count(network)


# ---- sizes -----------------------------------------------------------------------------------------------------------


@each_network
@pytest.mark.parametrize("size", [(565, 584), (999, 960), (33, 47)])
def test_2d_images_keep_their_size(network_class: type[torch.nn.Module], size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert network_class(in_channels=3, channels=(2, 4, 4, 4))(torch.rand(1, 3, *size)).shape == (1, 1, *size)


@each_network
def test_3d_images_keep_their_size(network_class: type[torch.nn.Module]) -> None:
    network = network_class(spatial_dims=3, out_channels=2, channels=TINY)
    assert network(torch.rand(1, 1, 9, 21, 15)).shape == (1, 2, 9, 21, 15)


@settings(deadline=None, max_examples=20)
@given(st.integers(4, 40), st.integers(4, 40), st.sampled_from(["deconv", "nontrainable", "pixelshuffle"]))
def test_every_size_from_one_pixel_at_the_bottom_is_kept(height: int, width: int, upsample: str) -> None:
    network = R2UNet(channels=(2, 4, 4), upsample=upsample).eval()  # three stages: four pixels become one
    assert network(torch.rand(1, 1, height, width)).shape == (1, 1, height, width)


# ---- export ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=FIVE, ids=lambda network_class: network_class.__name__)
def trained(request: pytest.FixtureRequest) -> torch.nn.Module:
    """Each network with statistics of its own in its norms, as after a training."""
    torch.manual_seed(0)
    network: torch.nn.Module = request.param(channels=TINY)
    network(torch.rand(4, 1, 32, 32))
    return network.eval()


def exported(network: torch.nn.Module) -> torch.export.ExportedProgram:
    batch, height, width = (torch.export.Dim(name, min=least) for name, least in [("b", 1), ("h", 8), ("w", 8)])
    sizes = {"x": {0: batch, 2: height, 3: width}}
    return torch.export.export(network, (torch.rand(2, 1, 40, 48),), dynamic_shapes=sizes)


OTHER_SIZES = [(1, 1, 33, 47), (3, 1, 64, 20), (1, 1, 8, 8)]  # none of them the one exported with


def test_torchscript_gives_the_same_logits(trained: torch.nn.Module) -> None:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(trained), file)
    file.seek(0)
    loaded = torch.jit.load(file)
    for size in OTHER_SIZES:
        image = torch.rand(size)
        torch.testing.assert_close(loaded(image), trained(image), rtol=0, atol=1e-6)


def test_torchscript_in_3d_and_with_a_shortcut() -> None:
    for network, size in [
        (AttentionR2UNet(3, channels=TINY).eval(), (1, 1, 9, 12, 7)),
        (R2UNet(residual="shortcut", recurrence="unshared", dropout=0.2, channels=TINY).eval(), (1, 1, 33, 47)),
    ]:
        image = torch.rand(size)
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=0, atol=1e-6)


def test_torch_export_with_dynamic_sizes_gives_the_same_logits(trained: torch.nn.Module) -> None:
    program = exported(trained).module()
    for size in OTHER_SIZES:
        image = torch.rand(size)
        torch.testing.assert_close(program(image), trained(image), rtol=0, atol=1e-6)


@pytest.mark.parametrize("trained", [R2UNet, AttentionR2UNet], indirect=True)  # their layers include all others'
def test_onnx_with_dynamic_sizes_gives_the_same_logits(trained: torch.nn.Module, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="ONNX export needs the extra 'export'")
    onnxruntime = pytest.importorskip("onnxruntime", reason="running ONNX needs the extra 'export'")
    file = tmp_path / "network.onnx"
    torch.onnx.export(exported(trained), (), file, dynamo=True, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    for size in OTHER_SIZES:
        image = torch.rand(size)
        (logits,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), trained(image).detach(), rtol=0, atol=1e-5)


# ---- learning --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network_class", "options"),
    [
        *((network_class, {}) for network_class in FIVE),
        (ResUNet, {"residual": "shortcut", "bias": True}),
        (R2UNet, {"residual": "shortcut"}),
        (R2UNet, {"recurrence": "tied"}),
        (R2UNet, {"recurrence": "unshared", "recurrences": 3}),
        (R2UNet, {"norm_per_step": False}),
        (R2UNet, {"norm": "INSTANCE"}),
        (R2UNet, {"norm": None, "act": "PRELU", "bias": True}),
        (AttentionR2UNet, {"spatial_dims": 3}),
    ],
)
def test_gradients_reach_every_parameter(network_class: type[torch.nn.Module], options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = network_class(channels=TINY, **options)
    size = (17, 22, 9) if options.get("spatial_dims") == 3 else (17, 22)
    network(torch.randn(2, 1, *size)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        # A norm takes away what the bias of the convolution before it adds: that gradient is 0 but for rounding.
        assert parameter.grad.isfinite().all(), name
        assert name.endswith("conv.bias") or parameter.grad.abs().max() > 0, name


@pytest.fixture(scope="module")
def chest(repository: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Eight real CT slices with lung, 64 x 64, window -1000 to 400 HU, and their masks."""
    sample = repository / "bundles" / "lung" / "sample"
    images, labels = (
        torch.from_numpy(np.asarray(nib.load(sample / kind / "LCTSC_000.nii.gz").dataobj).astype(np.float32))
        for kind in ("images", "labels")
    )
    slices = torch.stack([(images + 1000) / 1400, labels])[..., 4:12].permute(3, 0, 1, 2).clamp(0, 1)
    image, label = functional.interpolate(slices, (64, 64), mode="area").split(1, dim=1)
    return image, (label > 0.5).float()


@each_network
def test_each_network_learns(network_class: type[torch.nn.Module], chest: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, label = chest
    assert (label.mean((1, 2, 3)) > 0.05).all()
    torch.manual_seed(0)
    network = network_class(channels=(8, 16, 32, 64))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=40)
    losses = []
    for step in range(40):
        drawn = slice(step % 2, None, 2)
        loss = functional.binary_cross_entropy_with_logits(network(image[drawn]), label[drawn])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    assert max(losses[-2:]) < 0.6 * min(losses[:2])

    # And in evaluation mode, with the running statistics.
    with torch.no_grad():
        logits = network.eval()(image)
    assert functional.binary_cross_entropy_with_logits(logits, label) < 0.6 * min(losses[:2])
    assert 2 * ((logits > 0) * label).sum() / ((logits > 0).sum() + label.sum()) > 0.7  # Dice


# ---- wrong options ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network_class", "options", "message"),
    [
        (R2UNet, {"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
        (R2UNet, {"channels": (16,)}, r"at least two stages, got \(16,\)"),
        (R2UNet, {"channels": (16, 0)}, r"positive number .* got \(16, 0\)"),
        (R2UNet, {"recurrences": -1}, "recurrences .* must be 0 or more, got -1"),
        (R2UNet, {"recurrence": "looped"}, "recurrence must be one of shared, tied, unshared, got 'looped'"),
        (R2UNet, {"residual": "output"}, "residual must be 'input', 'shortcut' or None, got 'output'"),
        (R2UNet, {"layers": 0}, "layers must be 1 or more, got 0"),
        (R2UNet, {"kernel_size": 2}, "kernel_size must be odd.* got 2"),
        (R2UNet, {"recurrence": "tied", "residual": "shortcut"}, r"in_channels \(1\) must equal out_channels \(16\)"),
        (RUNet, {"recurrence": "tied"}, r"in_channels \(1\) must equal out_channels \(16\)"),
        (R2UNet, {"act": "STEP"}, "(?s)'STEP'.*Available options"),
        (R2UNet, {"norm": "MEAN"}, "(?s)'MEAN'.*Available options"),
        (R2UNet, {"upsample": "guess"}, "(?s)'guess'.*Available options"),
        (R2UNet, {"dropout": 2.0}, "dropout probability has to be between 0 and 1"),
    ],
)
def test_a_wrong_option_is_named(network_class: type[torch.nn.Module], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network_class(**options)


def test_networks_take_and_ignore_the_options_of_parts_they_lack() -> None:
    options: dict[str, Any] = {"recurrences": 3, "recurrence": "tied", "norm_per_step": False, "residual": "shortcut"}
    assert count(ForwardUNet(**options)) == count(ForwardUNet())


def test_the_example_in_the_docstring_runs() -> None:
    results = doctest.testmod(nets)
    assert results.attempted > 0
    assert results.failed == 0


# ---- registration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_bundles_find_the_network_under_each_spelling(spelling: str) -> None:
    parser = ConfigParser({"imports": ["$import monai_r2unet"], "network": {"_target_": spelling, "channels": [2, 4]}})
    assert type(parser.get_parsed_content("network")) is R2UNet


@pytest.mark.parametrize(
    "imports",
    [
        "import monai_r2unet.networks\nfrom monai.bundle import ConfigParser",
        "from monai.bundle import ConfigParser\nimport monai_r2unet",
    ],
)
def test_an_import_is_enough_in_a_new_process(imports: str, repository: Path) -> None:
    script = (
        f"{imports}\n"
        f"for spelling in {SPELLINGS}:\n"
        "    network = ConfigParser({'n': {'_target_': spelling, 'channels': [2, 4]}}).get_parsed_content('n')\n"
        "    print(type(network).__module__, type(network).__name__)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=repository, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["monai_r2unet.networks.nets R2UNet"] * 3


def test_registering_again_changes_nothing() -> None:
    before = {name: value for name, value in vars(monai.networks.nets).items() if not name.startswith("__")}
    monai_r2unet.register()
    monai_r2unet.register()
    after = {name: value for name, value in vars(monai.networks.nets).items() if not name.startswith("__")}
    assert after == before
    assert {name: after[name] for name in PARAMETERS} == {c.__name__: c for c in FIVE}


def test_no_name_is_one_of_monais_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PARAMETERS:
        assert ComponentLocator().get_component_module_name(name) == "monai_r2unet.networks.nets"

    class Foreign:
        pass

    monkeypatch.setattr(monai.networks.nets, "R2UNet", Foreign)
    with pytest.raises(RuntimeError, match=r"monai\.networks\.nets\.R2UNet exists already"):
        monai_r2unet.register()
    assert monai.networks.nets.R2UNet is Foreign


def test_frozen_batch_norms_keep_their_statistics_and_go_on_learning() -> None:
    torch.manual_seed(0)
    network = R2UNet(channels=(4, 8))
    network(torch.rand(2, 1, 16, 16))  # statistics that are not the initial ones
    freeze_batch_norm(network)
    network.train()
    state = {name: values.clone() for name, values in network.state_dict().items()}
    image = torch.rand(2, 1, 16, 16)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    trained = network(image)
    trained.square().mean().backward()
    optimizer.step()
    norms = [name for name in state if "norm" in name]
    changed = {name for name in norms if not torch.equal(state[name], network.state_dict()[name])}
    assert changed == {name for name in norms if name.endswith((".weight", ".bias"))}
    assert any(name.endswith(".running_mean") for name in norms)
    network.load_state_dict(state)
    torch.testing.assert_close(network.eval()(image), trained)  # training and evaluation are one network now
