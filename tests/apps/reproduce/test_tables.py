"""The tables of the paper with rows of ours, made from results that are written out here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from monai_r2unet.apps.reproduce import paper
from monai_r2unet.apps.reproduce.study import NETWORKS, OBSERVER
from monai_r2unet.apps.reproduce.tables import all_tables, table_of
from tests.apps.reproduce.reproduce_examples import result


def rows(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_table_of_the_paper_with_ours_beside_it() -> None:
    results = [
        result("R2UNet", 1, 0.82, 0.98),
        result("R2UNet", 0, 0.80, 0.97),
        result("ForwardUNet", 0, 0.80, 0.98),
        result("ForwardUNet", 1, 0.80, 0.98),
        result("R2UNet", 0, 0.5, 0.5, recurrences=3),
        result(OBSERVER, None, 0.79, None),
    ]
    table = table_of("drive", results)
    assert table.startswith(
        "**DRIVE**, protocol `paper`: epochs 2, lr 0.0002. Images: 18 training, 2 validation, 20 test. "
        "The paper's test took 6.42 s per image on its machine (Table V).\n"
    )
    head, _, *body = rows(table)
    about = ["parameters", "training, s", "test, s per image", "seeds"]
    assert head == ["network", "", "F1", "SE", "SP", "AC", "AUC", *about]
    common = ["0.5000 ± 0.0000", "0.7500 ± 0.0000", "0.6250 ± 0.0000"]
    alone = ["0.5000", "0.7500", "0.6250"]
    empty = ["", "", "", ""]
    assert body == [
        ["U-Net", "paper", "0.8142", "0.7537", "0.9820", "0.9531", "0.9755", "-", "-", "-", "-"],
        ["ForwardUNet", "inside FOV", "0.8000 ± 0.0000", *common, "0.9800 ± 0.0000", "1,234,567", "60", "0.12", "0, 1"],
        ["", "whole image", "0.8000 ± 0.0000", *common, "0.9800 ± 0.0000", *empty],
        ["ResU-Net", "paper", "0.8149", "0.7726", "0.9820", "0.9553", "0.9779", "-", "-", "-", "-"],
        ["ResUNet", "not run yet", *"-" * 9],
        ["RU-Net", "paper", "0.8155", "0.7751", "0.9816", "0.9556", "0.9782", "-", "-", "-", "-"],
        ["RUNet", "not run yet", *"-" * 9],
        ["R2U-Net", "paper", "0.8171", "0.7792", "0.9813", "0.9556", "0.9784", "-", "-", "-", "-"],
        # 0.0141 is the sample standard deviation of 0.80 and 0.82.
        ["R2UNet", "inside FOV", "0.8100 ± 0.0141", *common, "0.9750 ± 0.0071", "1,234,567", "60", "0.12", "0, 1"],
        ["", "whole image", "0.8100 ± 0.0141", *common, "0.9750 ± 0.0071", *empty],
        [
            "R2UNet, t = 3",
            "inside FOV",
            "0.5000",
            "0.5000",
            "0.7500",
            "0.6250",
            "0.5000",
            "1,234,567",
            "60",
            "0.12",
            "0",
        ],
        ["", "whole image", "0.5000", "0.5000", "0.7500", "0.6250", "0.5000", *empty],
        ["AttentionR2UNet", "not run yet", *"-" * 9],
        [OBSERVER, "inside FOV", "0.7900", *alone, *"-" * 5],
        ["", "whole image", "0.7900", *alone, "-", *empty],
    ]
    assert (
        "R2UNet against ForwardUNet (plain U-Net), inside FOV: F1 +0.0100 (within two standard deviations over seeds, "
        "0.0283); AUC -0.0050 (within two standard deviations over seeds, 0.0141)." in table
    )
    command = "monai-r2unet reproduce drive --data DATA --out OUT"
    more = "--protocol paper --recurrences 3 --epochs 2"
    assert f"- R2UNet: `{command} --networks R2UNet --seeds 0 1 --protocol paper --epochs 2`" in table
    assert f"- R2UNet, t = 3: `{command} --networks R2UNet --seeds 0 {more}`" in table
    assert f"- {OBSERVER}: any of these" in table
    assert "Ran on a processor, 1 thread; torch 2.13.0, MONAI 1.6.1." in table


def test_a_difference_beyond_chance_and_one_of_a_single_seed() -> None:
    sure = [result("R2UNet", seed, 0.82 + seed / 1000, 0.98) for seed in (0, 1)]
    sure += [result("ForwardUNet", seed, 0.80, 0.98) for seed in (0, 1)]
    assert "F1 +0.0205 (beyond two standard deviations over seeds, 0.0014)" in table_of("drive", sure)
    assert "F1 +0.0200 (one seed, so it may be due to chance)" in table_of("drive", [sure[0], sure[2]])
    assert "not both run yet" in table_of("drive", sure[:2])


def test_without_results_nothing_is_made_up() -> None:
    for dataset, networks in (("stare", 5), ("skin", 6), ("lung", 6)):
        table = table_of(dataset, [])
        assert "not run yet" in table.splitlines()[0]
        mine = [row for row in rows(table)[2:] if row[1] != "paper"]
        assert len(mine) == networks
        assert all(row[1] == "not run yet" and set(row[2:]) == {"-"} for row in mine)
    assert re.findall(r"^# (.*)$", all_tables([]), re.MULTILINE) == [
        "Table I: retinal vessels",
        "Table II: skin lesions",
        "Table III: lungs",
    ]


def test_leave_one_out_is_the_mean_over_folds_and_waits_for_all() -> None:
    folds = {"dataset": "stare", "name": "stare", "folds": 2}
    first = [result("R2UNet", 0, 0.8, 0.98, fold="a", **folds), result("R2UNet", 0, 0.9, 0.96, fold="b", **folds)]
    begun = result("R2UNet", 1, 0.1, 0.1, fold="a", **folds)
    table = table_of("stare", [*first, begun])
    (row,) = [row for row in rows(table) if row[:2] == ["R2UNet", "inside FOV"]]
    assert row[2:] == ["0.8500", "0.5000", "0.7500", "0.6250", "0.9700", "1,234,567", "120", "0.12", "0"]
    assert "Images: 18 training, 2 validation, 20 test, 2 times." in table
    (row,) = [row for row in rows(table_of("stare", [begun])) if row[0] == "R2UNet"]
    assert row[:3] == ["R2UNet", "not finished: 1 of 2 photographs", "-"]


def test_results_say_at_which_scale_they_were_made_and_scales_are_never_mixed() -> None:
    results = [
        result("R2UNet", 0, 0.8, 0.9, scale={"fov_diameter_px": 538}),
        result("R2UNet", 0, 0.7, 0.9),  # made before results stated it
        result("R2UNet", 0, 0.6, 0.9, dataset="lung", name="kaggle", scale={"min_extent_mm": 400}),
    ]
    first, second = re.findall(r"^\*\*DRIVE\*\*.*$", table_of("drive", results), re.MULTILINE)
    assert "20 test. Scale: field of view 538 pixels wide. The paper's test" in first
    assert "Scale" not in second
    assert "Scale: slices of at least 400 mm." in table_of("lung", results)


def test_budgets_and_data_are_never_mixed() -> None:
    results = [
        result("R2UNet", 0, 0.8, 0.9, dataset="lung", name="kaggle"),
        result("R2UNet", 0, 0.7, 0.9, dataset="lung", name="lctsc"),
        result("R2UNet", 1, 0.6, 0.9, dataset="lung", name="lctsc", schedule={"epochs": 3}),
    ]
    table = table_of("lung", results)
    captions = re.findall(r"^\*\*(.*?)\*\*, protocol `paper`: (.*?)\.", table, re.MULTILINE)
    budgets = ["epochs 2, lr 0", "epochs 2, lr 0", "epochs 3"]
    assert captions == [*zip(["Lungs, kaggle", "Lungs, lctsc", "Lungs, lctsc"], budgets, strict=True)]
    f1 = [row[5] for row in rows(table) if row[:2] == ["R2UNet", "inside FOV"]]
    assert f1 == ["0.8000", "0.7000", "0.6000"]
    assert "--name lctsc" in table


def test_skin_has_both_the_paper_s_columns_and_what_they_should_be() -> None:
    head, _, *body = rows(table_of("skin", [result("R2UNet", 0, 0.9, 0.98, dataset="skin", name="skin")]))
    (ours,) = [dict(zip(head, row, strict=True)) for row in body if row[:2] == ["R2UNet", "inside FOV"]]
    (theirs,) = [dict(zip(head, row, strict=True)) for row in body if row[:2] == ["R2U-Net, t = 3", "paper"]]
    assert (ours["JSC"], ours["DC"], ours["Jaccard, image mean"]) == ("-", "0.8900", "0.3000")
    assert (ours["ROC AUC"], ours["(SE + SP) / 2"]) == ("0.9800", "0.6250")
    assert (theirs["JSC"], theirs["(SE + SP) / 2"], theirs["DC"]) == ("0.9421", "0.9419", "0.8616")
    assert theirs["ROC AUC"] == theirs["Jaccard, image mean"] == "-"


def test_the_paper_s_numbers_are_those_of_its_text(data_root: Path) -> None:
    text_file = data_root.parent / "paper" / "r2unet-paper.txt"
    if not text_file.is_file():
        pytest.skip("the text of the paper does not lie beside the data")
    text = text_file.read_text(encoding="utf-8")
    number = r"([0-9]\.[0-9]{4})"
    names = {"U-Net": "ForwardUNet", "ResU-Net": "ResUNet", "Residual U-Net": "ResUNet", "R2U-Net": "R2UNet"}
    names |= {"Recurrent U-Net": "RUNet", "RU-Net": "RUNet", "RecU-Net": "RUNet"}

    def printed(start: str, end: str, count: int) -> list[tuple[str, str, list[float]]]:
        part = text[text.index(start) : text.index(end, text.index(start))].replace("\xa0", " ")
        pattern = rf"^(?:DRIVE |STARE |CHASE_DB1 )?([\w -]+?) ?(?:\(t=(\d)\))?\s+2018 {' +'.join([number] * count)}\s*$"
        rows = re.finditer(pattern, part, re.MULTILINE)
        return [(names[row[1]], row[2], [float(value) for value in row.groups()[2:]]) for row in rows]

    for dataset, start, end in (
        ("drive", "DRIVE Chen [53]", "STARE Marin"),
        ("stare", "STARE Marin", "CHASE_DB1  Fraz"),
        ("chase_db1", "CHASE_DB1  Fraz", "Fig. 16."),
    ):
        found = {name: values for name, _, values in printed(start, end, 5)}
        assert found == {name: [*row.values()] for name, row in paper.TABLE_I[dataset].items()}
    for table, start, end, count in (
        (paper.TABLE_II, "TABLE II. ", "Fig. 19.", 7),
        (paper.TABLE_III, "TABLE III. ", "Fig. 20.", 6),
    ):
        found_t = {(name, int(t)): values for name, t, values in printed(start, end, count)}
        assert found_t == {key: [*row.values()] for key, row in table.items()}
    head = text[text.index("TABLE III.") :]
    assert "Methods Year SE SP JSC F1-Score AC AUC" in head
    table_5 = text[text.index("TABLE V.") : text.index("V. CONCLUSION")]
    seconds = re.findall(r"(\d\.\d\d) *$", table_5, re.MULTILINE)
    assert [float(one) for one in seconds] == [*paper.SECONDS.values()]
    assert list(paper.TABLE_III["R2UNet", 3]) == ["SE", "SP", "JSC", "F1", "AC", "AUC"]
    assert "Dataset Methods Year F1-score SE SP AC AUC" in text
    assert "Methods Year SE SP JSC F1-score AC AUC DC" in text
    assert set(paper.NAMES) < set(NETWORKS)
