"""Write the tables of the README, the model cards and the docs from the result files in `benchmarks/results`.

    python -m benchmarks.tables

A table lies between `<!-- results: NAME -->` and `<!-- end -->`; a test compares it with the result file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from benchmarks import photograph_tables, scale_tables, speed_tables
from benchmarks.records import REPOSITORY, RESULTS, read_lines
from monai_r2unet.apps.reproduce import tables as reproduced
from monai_r2unet.apps.reproduce.paper import TABLE_III
from monai_r2unet.bundle import find_bundle

REPRODUCED = RESULTS / "reproduce.jsonl"
# The run shown beside ours: the paper's network, trained only on its lung set.
SLICES_ALONE = {"name": "kaggle", "network": "R2UNet", "recurrences": 2, "epochs": 80}
TRAININGS = ("nineteenth", "twentieth", "twenty-first", "twenty-second")  # in the order of lung_forms.json
MEASURES = ("dice", "jaccard", "sensitivity", "specificity", "accuracy")


def row(title: str, measures: Mapping[str, float]) -> str:
    """One line of a Markdown table."""
    cells = [f"{measures[name]:.4f}" if name in measures else "-" for name in MEASURES]
    return f"| {title} | {' | '.join(cells)} |"


def paper_lung() -> dict[str, float]:
    """The row of the paper's best network in its Table III, with our names; its JSC is not the Jaccard index."""
    names = {"F1": "dice", "SE": "sensitivity", "SP": "specificity", "AC": "accuracy"}
    return {ours: TABLE_III["R2UNet", 3][column] for column, ours in names.items()}


def slices_alone() -> dict[str, Any]:
    """The result of the network trained only on the paper's lung set."""
    (found,) = (run for run in read_lines(REPRODUCED) if SLICES_ALONE.items() <= {**run, **run["schedule"]}.items())
    return found


def lung() -> str:
    """The results of the shipped lung weights on images they were not trained on."""
    result: dict[str, Any] = json.loads((RESULTS / "lung_test.json").read_text())
    slices, abdomen = result["paper_slices"], result["abdomen"]
    alone = slices_alone()
    lines = [
        "| tested on | Dice = F1 | Jaccard | sensitivity | specificity | accuracy |",
        "|---|---|---|---|---|---|",
        row("LCTSC 007, 512x512x131, DICOM series", result["LCTSC_007"]),
        row("LCTSC 008, 256x256x140", result["LCTSC_008"]),
        row(f"{slices['per_image']['counted']['dice']} test slices of the paper's lung set", slices["pooled"]),
        row(
            "the same, R2U-Net trained only on that set, not shipped",
            alone["test"]["regions"]["whole_image"]["pooled"],
        ),
        row("paper, R2U-Net t = 3, its own split of that set", paper_lung()),
        "",
        "Pooled over all pixels; R2U-Net with t = 2 and 1.05 million parameters. Worst of the test slices: Dice "
        f"{slices['worst'][0]['dice']:.3f}. In an abdominal CT of another scanner {100 * abdomen['share_of_body']:.2f} "
        "% of the body was wrongly segmented as lung.",
        "Measured by `python -m benchmarks.measure_lung`; data, versions and seconds are in "
        "[the result file](benchmarks/results/lung_test.json).",
        f"The network trained only on the paper's set comes from `{alone['command']}`, which took "
        f"{alone['training']['seconds'] / 60:.0f} minutes on one CPU core "
        f"([the result file](benchmarks/results/{REPRODUCED.name})). It was trained on single chest slices without any "
        "abdomen, which it segments as lung in a complete scan.",
    ]
    return "\n".join(lines)


RANKED = {
    "paper_slices": "test slices of the paper's lung set, a patient each",
    "chest_slices": "every fourth slice of the LCTSC patients 007 and 008",
    "drive": "DRIVE, test photographs",
    "chase_db1": "CHASE_DB1, test photographs",
    "skin": "ISIC 2017, of the test photographs the first hundred",
}


def uncertainty() -> str:
    """How the MONAI Label server's score ranks images by their error."""
    path = RESULTS / "uncertainty.json"
    if not path.is_file():
        raise speed_tables.NotMeasured("Not measured yet: `python -m benchmarks.uncertainty`.")
    result: dict[str, Any] = json.loads(path.read_text())
    rows = []
    for name, one in result["sets"].items():
        low, high = one["spearman_95_percent"]
        error = one["mean_error"]
        shares = (error[key] for key in ("all", "fifth_with_highest_scores", "worst_fifth"))
        correlation = f"{one['spearman']:.2f} ({low:.2f} to {high:.2f})"
        rows.append([RANKED[name], str(one["count"]), correlation, *(f"{share:.3f}" for share in shares)])
    errors = ["mean error of all", "of the fifth with the highest scores", "of the worst fifth"]
    interval = f"interval of the bootstrap over images, seed {result['seed']}"
    note = f"Measured by `python -m benchmarks.uncertainty`; {interval}."
    return f"{speed_tables.table(['images', 'number', 'Spearman (95 % interval)', *errors], rows)}\n\n{note}"


def viewer() -> str:
    """Response times of the web viewer."""
    found: dict[str, Any] = json.loads((RESULTS / "viewer.json").read_text())
    size = "x".join(map(str, found["image"]))
    starts = found["first_view_s"]
    first = f"from the command to the axial slice of a {size} DICOM series"
    rows = [[first, f"{median(starts):.1f} s", f"{max(starts):.1f} s"]]
    for what, samples in found["slice_ms"].items():
        kind, screen = what.split(", ")
        rows.append(
            [
                f"from a key to the next slice, {screen}, {'with' if kind == 'mask' else 'without'} a mask",
                f"{median(samples):.0f} ms",
                f"{max(samples):.0f} ms",
            ]
        )
    note = (
        f"{found['processor']}, {found['cores']} cores for viewer, worker and headless {found['browser']}, without a "
        f"graphics card; {len(starts)} starts, {len(samples)} slices. Measured by `python -m benchmarks.viewer`."
    )
    return f"{speed_tables.table(['measured', 'median', 'slowest'], rows)}\n\n{note}"


def dicom_node() -> str:
    """Load and memory of the DICOM node."""
    path = RESULTS / "dicom_node.json"
    if not path.is_file():
        raise speed_tables.NotMeasured("Not measured yet: `python -m benchmarks.node`.")
    found: dict[str, Any] = json.loads(path.read_text())
    load, memory = found["load"], found["memory"]
    rows = [
        [
            "series a minute, of 512x512 and " + f"{load['slices']} slices",
            f"{60 * load['series'] / load['seconds']:.2f}",
        ],
        ["seconds in which a scanner gets rid of one", f"{load['seconds_to_send'] / load['series']:.1f}"],
    ]
    for name, sizes in memory["resident_bytes"].items():
        each = memory["series"] // len(sizes)
        title = f"memory of the {name}, after {each}, {memory['series'] // 2} and {memory['series']} small series"
        shown = (sizes[0], sizes[len(sizes) // 2 - 1], sizes[-1])
        rows.append([title, ", ".join(f"{size / 1e6:.0f} MB" for size in shown)])
    note = (
        f"{speed_tables.conditions(found)}, {found['cores']} cores, load average {found['load_average_before']} "
        f"before; small series have {memory['slices']} slices. Measured by `{found['command']}`."
    )
    return f"{speed_tables.table(['measured', 'result'], rows)}\n\n{note}"


def papers(number: int) -> Callable[[], str]:
    """What makes one of the paper's tables, with the results in `reproduce.jsonl` beside its own."""
    return lambda: list(reproduced.TABLES.values())[number - 1](read_lines(REPRODUCED))


def lung_surfaces() -> str:
    """The lung masks of complete scans beyond Dice: their surfaces, worst slices and islands."""
    result: dict[str, Any] = json.loads((RESULTS / "lung_test.json").read_text())
    if "sides" not in result["LCTSC_007"]:
        raise speed_tables.NotMeasured("Not measured yet: `python -m benchmarks.measure_lung`.")
    rows = []
    for name in ("LCTSC_007", "LCTSC_008"):
        one = result[name]
        worst = f"{one['worst_slice']['dice']:.3f}"
        surface = (f"{one['surface_dice_2_mm']:.3f}", f"{one['hausdorff_95_mm']:.1f} mm")
        lungs = (f"{one['sides'][side]:.4f}" for side in ("right", "left"))
        rows.append([name.replace("_", " "), f"{one['dice']:.4f}", *lungs, *surface, worst, str(one["islands"])])
    head = [
        "scan",
        "Dice",
        "right lung",
        "left lung",
        "surface Dice at 2 mm",
        "95 % Hausdorff distance",
        "Dice of the worst slice",
        "islands",
    ]
    return speed_tables.table(head, rows)


def lung_forms() -> str:
    """Dice of the lung weights of the last trainings on each form of the validation images."""
    weights = json.loads((RESULTS / "lung_forms.json").read_text())["weights"]
    ships = find_bundle("lung").weights_sha256
    titles = [name + ", ships" * (one["sha256"] == ships) for name, one in zip(TRAININGS, weights, strict=False)]
    rows = []
    for form in weights[-1]["mean"]:
        source, worst = min(weights[-1]["sources"][form].items(), key=lambda each: each[1])
        cells = [f"{one['mean'][form]:.3f}" for one in weights]
        rows.append([form, *cells, f"{worst:.3f} ({source})"])
    outside = [f"{one['outside_percent']:.3f}" if "outside_percent" in one else "-" for one in weights]
    rows.append(["labelled as lung outside the lungs, % of the body", *outside, ""])
    return speed_tables.table(["form", *titles, "worst source of the last"], rows)


def several_labels() -> str:
    """The bundles of the two examples with several labels, on their test images."""
    path = RESULTS / "several_labels.json"
    if not path.is_file():
        raise speed_tables.NotMeasured("Not measured yet: `python -m benchmarks.several_labels`.")
    tasks: dict[str, Any] = json.loads(path.read_text())
    rows = [
        [f"`{name}`, {task['test']['images']} for test", label, f"{measured['dice']:.4f}", f"{measured['jaccard']:.4f}"]
        for name, task in tasks.items()
        for label, measured in task["test"]["labels"].items()
    ]
    lines = [speed_tables.table(["example", "label", "Dice", "Jaccard"], rows), ""]
    for name, task in tasks.items():
        minutes, epochs = task["training_seconds"] / 60, task["training"]["epochs"]
        lines.append(
            f"`{name}`: {epochs} epochs, {minutes:.0f} minutes on {task['processor']}, {task['threads']} thread."
        )
    if "sides" in tasks:
        lines.append(
            f"Of LCTSC 008, stored in each of the 48 orders and directions of its axes, at most "
            f"{tasks['sides']['most_exchanged_percent']:.3f} % of the lungs' voxels are called the other lung."
        )
    return "\n".join(lines)


TABLES = {
    "dicom_node": dicom_node,
    "lung": lung,
    "lung_forms": lung_forms,
    "lung_surfaces": lung_surfaces,
    **photograph_tables.TABLES,
    **{f"table_{number}": papers(number) for number in (1, 2, 3)},
    **scale_tables.TABLES,
    "several_labels": several_labels,
    **speed_tables.TABLES,
    "uncertainty": uncertainty,
    "viewer": viewer,
}
CARDS = tuple(f"bundles/{name}/docs/README.md" for name in ("lung", *photograph_tables.BUNDLES))
FILES = (
    "README.md",
    "docs/explanation/reproduction.md",
    "docs/reference/speed.md",
    "docs/how-to/dicom_node.md",
    "docs/how-to/monai_label.md",
    "docs/how-to/new_task.md",
    "docs/how-to/segment.md",
    "docs/how-to/viewer.md",
    "docs/history/lung_weights.md",
    *CARDS,
)


def fill(text: str) -> str:
    """`text` with every marked table made anew."""
    for name, table in TABLES.items():
        pattern = rf"(<!-- results: {name} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda match, table=table: f"{match[1]}{made(table)}\n{match[2]}", text, flags=re.DOTALL)
    return text


def made(table: Callable[[], str]) -> str:
    """The table, or that it was not measured yet."""
    try:
        return table()
    except speed_tables.NotMeasured as error:
        return str(error)


def main() -> None:
    """Rewrite the files."""
    for name in FILES:
        path = REPOSITORY / name
        path.write_text(fill(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
