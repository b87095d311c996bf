"""Folders of bundles: a server that starts without weights, and becomes useful by its first labels."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("monailabel", reason="MONAI Label is not installed: `make test-label` installs it and runs these")

from monailabel.client.client import MONAILabelClientException

from label_server.serve import check_bundles, server_name
from monai_r2unet.bundle import Bundle
from monai_r2unet.errors import InputError

LABELS = {"dark part": 1, "bright part": 2}
REPOSITORY = Path(__file__).resolve().parents[2]


def drawn(seed: int) -> tuple[sitk.Image, sitk.Image]:
    """A volume of two bright parts in air, and its mask."""
    mask = np.zeros((3, 32, 40), np.uint8)
    mask[:, 4 : 16 + seed, 2:16] = 1
    mask[:, 10 - seed : 28, 20:36] = 2
    values = np.array([-1000, 100, 400])[mask] + np.random.default_rng(seed).normal(0, 10, mask.shape)
    image, label = sitk.GetImageFromArray(values.astype(np.int16)), sitk.GetImageFromArray(mask)
    for one in (image, label):
        one.SetSpacing((2.0, 2.0, 3.0))
    return image, label


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that `new` planned, without weights."""
    folder = tmp_path_factory.mktemp("planned")
    for seed in range(3):
        for part, image in zip(("images", "masks"), drawn(seed), strict=True):
            (folder / "data" / part).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(image, str(folder / "data" / part / f"case{seed}.nii.gz"))
    new = [sys.executable, "-m", "monai_r2unet", "new", str(folder / "parts"), str(folder / "data")]
    subprocess.run([*new, "--labels", ",".join(LABELS)], check=True, capture_output=True, cwd=REPOSITORY)
    return folder / "parts"


def test_a_server_without_weights_becomes_useful_by_its_first_labels(planned, serve, tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    for seed in range(4):
        sitk.WriteImage(drawn(seed)[0], str(studies / f"case{seed}.nii.gz"))
    with serve(studies, tmp_path / "work", "--bundles", str(planned), "--trust-bundle") as server:
        client = server.client
        info = client.info()
        assert info["models"]["parts"]["labels"] == LABELS
        colours = {label["name"]: label["colour"] for label in Bundle(planned).labels}
        assert info["models"]["parts"]["label_colors"] == colours
        config = info["trainers"]["parts"]["config"]
        assert (config["pretrained"], config["freeze_norm"]) == (False, False)
        with pytest.raises(MONAILabelClientException) as caught:
            client.infer("parts", "case3", {"device": "cpu"})
        assert "'parts' has no weights yet: draw and save the labels of some images" in caught.value.msg
        assert server.score("uncertainty_parts")["executed"] == 0
        assert client.next_sample("uncertainty_parts", {})["id"] == "case0"

        for seed in range(3):
            sitk.WriteImage(drawn(seed)[1], str(tmp_path / "label.nii.gz"))
            client.save_label(f"case{seed}", str(tmp_path / "label.nii.gz"), params={"model": "parts"})
        told = server.train("parts", max_epochs=20)
        assert told.startswith("DONE"), told
        stats = client.info()["train_stats"]["parts"]
        assert stats["best_metric"] > 0.8
        assert {f"val_dice_{label}" for label in LABELS} <= stats["validation"].keys()

        path, told = client.infer("parts", "case3", {"device": "cpu", "result_extension": ".seg.nrrd"})
        mask = sitk.ReadImage(path)
        assert told["label_names"] == LABELS
        for index, (name, value) in enumerate(LABELS.items()):
            assert mask.GetMetaData(f"Segment{index}_Name") == name
            colour = [round(255 * float(part)) for part in mask.GetMetaData(f"Segment{index}_Color").split()]
            assert colour == colours[name]
            found, truth = (sitk.GetArrayFromImage(one) == value for one in (mask, drawn(3)[1]))
            assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.8
        assert 0 <= server.score("uncertainty_parts")["scores"]["case3"] <= 1
        assert not (server.work / "model" / "parts" / "models" / "previous.pt").exists()
        assert client.info()["trainers"]["parts"]["config"]["pretrained"]
    assert not (planned / "models" / "model.pt").exists()  # the server trains its own copy


def test_a_folder_is_served_if_it_is_safe_and_trained_if_its_author_is_trusted(planned, tmp_path):
    trained = tmp_path / "organs" / "eval"
    shutil.copytree(planned, trained)
    bundles = [Bundle(planned), Bundle(trained)]
    assert [server_name(bundle) for bundle in bundles] == ["parts", "organs"]
    with pytest.raises(InputError, match="has no weights yet"):
        check_bundles(bundles, [])
    check_bundles(bundles, bundles)
    with pytest.raises(InputError, match="two bundles have the name 'organs'"):
        check_bundles([bundles[1], bundles[1]], bundles)
    (trained / "models" / "model.pt").write_bytes(b"weights")
    check_bundles([bundles[1]], [])
    metadata = json.loads((trained / "configs" / "metadata.json").read_text())
    metadata["weights"]["sha256"] = "0" * 64
    (trained / "configs" / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(InputError, match="are damaged"):
        check_bundles([Bundle(trained)], [])
