"""A mirror image exchanges the sides."""

import torch

from monai_r2unet.transforms.mirror import RandMirrord


def test_the_right_side_of_a_mirror_image_is_the_left_one():
    image = torch.arange(12.0).reshape(1, 4, 3)
    label = torch.tensor([[[1, 1, 0], [3, 0, 0], [0, 0, 0], [0, 2, 2]]])
    mirrored = RandMirrord(["image", "label"], "label", [[1, 2]], prob=1.0)({"image": image, "label": label})
    assert torch.equal(mirrored["image"], image.flip(1))
    assert mirrored["label"].tolist() == [[[0, 1, 1], [0, 0, 0], [3, 0, 0], [2, 2, 0]]]
    assert label[0, 0, 0] == 1  # the input stays


def test_half_of_the_images_are_mirrored_with_their_masks():
    transform = RandMirrord(["image", "label"], "label", [[1, 2]], prob=0.5).set_random_state(0)
    image, label = torch.tensor([[[0.0], [1.0]]]), torch.tensor([[[1], [2]]])
    drawn = [transform({"image": image, "label": label}) for _ in range(200)]
    assert all(each["label"].flatten().tolist() == [1, 2] for each in drawn)  # the right is where the right was
    assert 70 < sum(bool(each["image"][0, 0, 0] == 1) for each in drawn) < 130
