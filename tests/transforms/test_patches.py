"""Random changes of photographs: within their limits, each picture its own, and nothing where nothing was asked."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_r2unet.transforms.patches import RandomGeometry, RandomIntensity

SIZE = 8
COUNT = 400


def grid(count: int = COUNT) -> torch.Tensor:
    axis = torch.arange(SIZE) - (SIZE - 1) / 2
    return torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).expand(count, SIZE, SIZE, 2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def affine(**options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Matrices (N, 2, 2) and shifts (N, 2) that a RandomGeometry applied, after a look whether it was affine."""
    options = {"mirror": False, "quarter_turns": False, "prob": 1.0, **options}
    points, moved = grid(), RandomGeometry(**options)(grid(), generator())
    matrix = torch.stack([moved[:, 1, 0] - moved[:, 0, 0], moved[:, 0, 1] - moved[:, 0, 0]], -1)
    shift = moved.mean((1, 2))
    expected = torch.einsum("nij,nxyj->nxyi", matrix, points) + shift[:, None, None]
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-4)
    return matrix, shift


def test_no_change_where_none_is_asked() -> None:
    still = RandomGeometry(mirror=False, quarter_turns=False)
    assert torch.equal(still(grid(), generator()), grid())
    images = torch.randn(4, 3, 8, 8, generator=generator())
    assert torch.equal(RandomIntensity()(images, generator()), images)


def test_mirroring_and_quarter_turns_lead_from_pixel_to_pixel() -> None:
    moved = RandomGeometry()(grid(), generator())
    pixels = {tuple(point) for point in grid(1).reshape(-1, 2).tolist()}
    seen = set()
    for points in moved:
        assert {tuple(point) for point in points.reshape(-1, 2).tolist()} == pixels
        seen.add(tuple(points.flatten().tolist()))
    assert len(seen) == 8


def test_rotation_keeps_lengths_and_its_limit() -> None:
    matrix, shift = affine(rotate=0.5)
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(2).expand(COUNT, 2, 2), rtol=0, atol=1e-5)
    angles = torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0])
    assert 0.45 < angles.max() <= 0.5
    assert -0.5 <= angles.min() < -0.45
    assert shift.abs().max() < 1e-5


def test_scale_stretch_and_shift_keep_their_limits() -> None:
    matrix, _ = affine(scale=0.25)
    factors = matrix[:, 0, 0]
    torch.testing.assert_close(matrix, torch.eye(2) * factors[:, None, None], rtol=0, atol=1e-5)
    assert 1.2 < factors.max() <= 1.25 + 1e-6
    assert 0.8 - 1e-6 <= factors.min() < 0.83

    matrix, _ = affine(stretch=0.1)
    ratio = matrix[:, 0, 0] / matrix[:, 1, 1]
    assert 1.09 < ratio.max() <= 1.1 + 1e-6
    torch.testing.assert_close(torch.linalg.det(matrix), torch.ones(COUNT), rtol=0, atol=1e-5)

    matrix, shift = affine(shift=0.25)
    torch.testing.assert_close(matrix, torch.eye(2).expand(COUNT, 2, 2), rtol=0, atol=1e-5)
    assert 1.9 < shift.abs().max() <= 0.25 * SIZE
    assert abs(float(torch.corrcoef(shift.T)[0, 1])) < 0.2  # each axis its own


def test_only_a_share_of_the_patches_is_turned() -> None:
    matrix, _ = affine(rotate=0.5, prob=0.3)
    changed = (matrix - torch.eye(2)).abs().amax((1, 2)) > 1e-6
    assert 0.2 < changed.float().mean() < 0.4


@pytest.mark.parametrize("name", ["brightness", "contrast", "tone", "colour", "shading", "noise"])
def test_one_change_of_intensity_at_a_time(name: str) -> None:
    images = torch.randn(60, 3, 16, 16, generator=generator(1))
    changed = RandomIntensity(**{name: 0.3})(images, generator())
    added = changed - images
    strength = added.abs().amax((1, 2, 3))
    assert strength.max() > 0.1
    assert len(strength.unique()) == 60  # each picture its own
    within_channel = added.amax((2, 3)) - added.amin((2, 3))
    across_channels = (added.amax(1) - added.amin(1)).amax((1, 2))
    if name == "brightness":
        assert within_channel.max() < 1e-5
        assert across_channels.max() < 1e-5
        assert strength.max() <= 0.3 + 1e-6
    elif name == "contrast":
        factor = (changed / images).flatten(1)
        torch.testing.assert_close(factor, factor[:, :1].expand_as(factor), rtol=1e-4, atol=0)
        assert 1 / 1.3 - 1e-4 < factor.min() < 0.8
        assert 1.2 < factor.max() < 1.3 + 1e-4
    elif name == "tone":
        bent = 0.3 * (images.clamp(-2, 2) ** 2 - 1) / 2
        assert (added.abs() <= bent.abs() + 1e-5).all()
    elif name == "colour":
        assert within_channel.max() < 1e-5
        assert across_channels.min() > 0
        assert strength.max() <= 0.3 + 1e-6
    elif name == "shading":
        assert across_channels.max() < 1e-5
        assert strength.max() <= 0.3 + 1e-6
        assert (added.diff(dim=2).abs().amax((1, 2, 3)) < strength / 2 + 1e-6).all()  # smooth
    else:
        deviation = added.std((1, 2, 3))
        assert deviation.max() < 0.3 * 1.1
        assert abs(float(added.mean())) < 0.01


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_generator_decides_and_no_other(seed: int) -> None:
    intensity = RandomIntensity(0.3, 0.3, 0.2, 0.2, 0.3, 0.1)
    geometry = RandomGeometry(rotate=1, scale=1, stretch=1, shift=1)
    images = torch.randn(2, 3, 16, 16, generator=generator(1))
    state = torch.get_rng_state()
    first = intensity(images, generator(seed)), geometry(grid(2), generator(seed))
    second = intensity(images, generator(seed)), geometry(grid(2), generator(seed))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
