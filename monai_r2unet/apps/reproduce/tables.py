"""The paper's tables with our rows beside its own, as Markdown, made only from result files."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from monai_r2unet.apps.reproduce import paper
from monai_r2unet.apps.reproduce.study import NETWORKS, OBSERVER, command

__all__ = ["TABLES", "all_tables", "table_of"]

Result = Mapping[str, Any]
PaperRows = Mapping[tuple[str, int], Mapping[str, float]]
NOT_RUN = "not run yet"
REGIONS = {"inside_fov": "inside FOV", "whole_image": "whole image"}


class Column(NamedTuple):
    """A column: its title, the paper's name for it, and the place of its value in a result."""

    title: str
    paper: str | None
    aggregation: str = "pooled"
    measure: str | None = None


_SE, _SP = Column("SE", "SE", measure="sensitivity"), Column("SP", "SP", measure="specificity")
_F1, _AC = Column("F1", "F1", measure="f1"), Column("AC", "AC", measure="accuracy")
_JSC = Column("JSC", "JSC")
# The paper's AUC of Tables II and III is that of a mask: docs/explanation/paper_columns.md.
_BALANCED, _AUC = Column("(SE + SP) / 2", "AUC", measure="balanced_accuracy"), Column("ROC AUC", None, measure="auc")

RETINA = (_F1, _SE, _SP, _AC, Column("AUC", "AUC", measure="auc"))
SKIN = (
    *(_SE, _SP, _JSC, _F1, _AC, _BALANCED, _AUC),
    Column("DC", "DC", "per_image", "dice"),
    Column("Jaccard, image mean", None, "per_image", "jaccard"),
)
LUNG = (_SE, _SP, _JSC, _F1, _AC, _BALANCED, _AUC, Column("Jaccard", None, measure="jaccard"))

_ABOUT = ("parameters", "training, s", "test, s per image", "seeds")


def all_tables(results: Sequence[Result]) -> str:
    """Tables I, II and III as one Markdown text."""
    return "\n\n".join(f"# {title}\n\n{table(results)}" for title, table in TABLES.items()) + "\n"


def table_of(dataset: str, results: Sequence[Result]) -> str:
    """All tables of one data set, as Markdown."""
    if dataset in paper.TABLE_I:
        return _retina(dataset, results)
    return (_table_2 if dataset == "skin" else _table_3)(results)


def _table_1(results: Sequence[Result]) -> str:
    return "\n\n".join(_retina(dataset, results) for dataset in paper.TABLE_I)


def _retina(dataset: str, results: Sequence[Result]) -> str:
    rows = {(network, 2): row for network, row in paper.TABLE_I[dataset].items()}
    return _sections(results, dataset, dataset.upper(), RETINA, rows)


def _table_2(results: Sequence[Result]) -> str:
    return _sections(results, "skin", "ISIC 2017", SKIN, paper.TABLE_II)


def _table_3(results: Sequence[Result]) -> str:
    return _sections(results, "lung", "Lungs", LUNG, paper.TABLE_III)


TABLES: dict[str, Callable[[Sequence[Result]], str]] = {
    "Table I: retinal vessels": _table_1,
    "Table II: skin lesions": _table_2,
    "Table III: lungs": _table_3,
}
"""Title -> function that makes the table, as Markdown, from results."""


# ---- one data set ----------------------------------------------------------------------------------------------------


def _sections(results: Sequence[Result], dataset: str, title: str, columns: Sequence[Column], rows: PaperRows) -> str:
    """A table for each budget and scale of the data set; results with different ones are never combined."""
    groups: dict[str, list[Result]] = {}
    observers: dict[str, list[Result]] = {}
    for result in results:
        if result["dataset"] != dataset:
            continue
        if result["network"] == OBSERVER:
            observers.setdefault(result["name"], []).append(result)
        else:
            key = json.dumps([result["name"], result["protocol"], result["schedule"], result.get("scale")])
            groups.setdefault(key, []).append(result)
    theirs = f"The paper's test took {paper.SECONDS[dataset]} s per image on its machine (Table V)."
    if not groups:
        return _section(f"**{title}**: {NOT_RUN}. {theirs}", [], [], columns, rows)
    return "\n\n".join(
        _section(f"{_caption(title, group)} {theirs}", group, observers.get(group[0]["name"], []), columns, rows)
        for group in groups.values()
    )


def _section(
    caption: str, group: Sequence[Result], observer: Sequence[Result], columns: Sequence[Column], rows: PaperRows
) -> str:
    heads = ["network", "", *(column.title for column in columns), *_ABOUT]
    lines = [caption, "", _line(heads), _line(["---"] * len(heads))]
    for network, t in _networks(group, rows):
        mine = [one for one in group if (one["network"], one["recurrences"]) == (network, t)]
        printed = rows.get((network, t))
        name = network if t == 2 else f"{network}, t = {t}"
        if printed is not None:
            values = [f"{printed[column.paper]:.4f}" if column.paper else "-" for column in columns]
            shown = paper.NAMES[network] if t == 2 else f"{paper.NAMES[network]}, t = {t}"
            lines.append(_line([shown, "paper", *values, "-", "-", "-", "-"]))
        lines += _rows_of(name, mine, columns) if mine else [_line([name, NOT_RUN, *["-"] * (len(heads) - 2)])]
    if observer:
        lines += _rows_of(OBSERVER, observer, columns)
    if group:
        lines += ["", _verdict(group, columns), "", *_made_by([*group, *observer])]
    return "\n".join(lines)


def _networks(group: Sequence[Result], rows: PaperRows) -> list[tuple[str, int]]:
    """(Network, t) of the paper and of ours, in the order of NETWORKS."""
    known = {*rows, *((one["network"], one["recurrences"]) for one in group), *((name, 2) for name in NETWORKS)}
    return sorted(known, key=lambda one: (NETWORKS.index(one[0]), one[1]))


def _rows_of(name: str, results: Sequence[Result], columns: Sequence[Column]) -> list[str]:
    """A row for each region, with the mean over seeds and, for several seeds, the standard deviation."""
    by_seed = _finished(results)
    if not by_seed:
        folds = len(results), results[0]["folds"]
        return [_line([name, f"not finished: {folds[0]} of {folds[1]} photographs", *["-"] * (len(columns) + 4)])]
    lines = []
    for number, region in enumerate(by_seed[0][0]["test"]["regions"]):
        cells = [_spread([_of_seed(seed, region, column) for seed in by_seed]) for column in columns]
        about = _about(by_seed) if number == 0 else ["", "", "", ""]
        lines.append(_line([name if number == 0 else "", REGIONS[region], *cells, *about]))
    return lines


def _about(by_seed: Sequence[Sequence[Result]]) -> list[str]:
    first = by_seed[0][0]
    if first["network"] == OBSERVER:
        return ["-"] * 4
    training = [sum(one["training"]["seconds"] for one in seed) for seed in by_seed]
    test = [statistics.fmean(one["test"]["seconds_per_image"] for one in seed) for seed in by_seed]
    seeds = ", ".join(str(seed[0]["seed"]) for seed in by_seed)
    return [f"{first['parameters']:,}", f"{statistics.fmean(training):.0f}", f"{statistics.fmean(test):.2f}", seeds]


# ---- several results combined ----------------------------------------------------------------------------------------


def _finished(results: Sequence[Result]) -> list[list[Result]]:
    """The results of each seed, sorted by seed, for seeds with all their folds."""
    by_seed: dict[Any, list[Result]] = {}
    for result in results:
        by_seed.setdefault(result["seed"], []).append(result)
    return [
        by_seed[seed] for seed in sorted(by_seed, key=str) if len(by_seed[seed]) == max(1, by_seed[seed][0]["folds"])
    ]


def _of_seed(seed: Sequence[Result], region: str, column: Column) -> float | None:
    """One seed's measure: of its test set, or the mean over the folds in which it is defined."""
    if column.measure is None:
        return None
    values = []
    for result in seed:
        summary = result["test"]["regions"][region][column.aggregation]
        values.append((summary["mean"] if column.aggregation == "per_image" else summary)[column.measure])
    defined = [value for value in values if value is not None]
    return statistics.fmean(defined) if defined else None


def _spread(values: Iterable[float | None]) -> str:
    defined = [value for value in values if value is not None]
    if not defined:
        return "-"
    mean = f"{statistics.fmean(defined):.4f}"
    return mean if len(defined) == 1 else f"{mean} ± {statistics.stdev(defined):.4f}"


def _verdict(group: Sequence[Result], columns: Sequence[Column]) -> str:
    """The difference between R2U-Net and plain U-Net in this table, in a sentence."""
    ours, plain = (
        _finished([one for one in group if (one["network"], one["recurrences"]) == (network, 2)])
        for network in ("R2UNet", "ForwardUNet")
    )
    if not ours or not plain:
        return "R2UNet against ForwardUNet (plain U-Net): not both run yet."
    region = next(iter(ours[0][0]["test"]["regions"]))
    parts = []
    for measure in ("f1", "auc"):
        column = next(one for one in columns if one.measure == measure)
        left, right = (
            [value for seed in seeds if (value := _of_seed(seed, region, column)) is not None]
            for seeds in (ours, plain)
        )
        if not left or not right:
            continue
        difference = statistics.fmean(left) - statistics.fmean(right)
        if min(len(left), len(right)) < 2:
            note = "one seed, so it may be due to chance"
        else:
            spread = max(statistics.stdev(left), statistics.stdev(right))
            small = abs(difference) <= 2 * spread
            note = f"{'within' if small else 'beyond'} two standard deviations over seeds, {2 * spread:.4f}"
        parts.append(f"{column.title} {difference:+.4f} ({note})")
    return f"R2UNet against ForwardUNet (plain U-Net), {REGIONS[region]}: {'; '.join(parts)}."


def _caption(title: str, group: Sequence[Result]) -> str:
    first = group[0]
    name = title if first["name"] == first["dataset"] else f"{title}, {first['name']}"
    schedule = ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in first["schedule"].items())
    data = ", ".join(f"{first['data'][split]} {split}" for split in ("training", "validation", "test"))
    folds = f", {first['folds']} times" if first["folds"] else ""
    return f"**{name}**, protocol `{first['protocol']}`: {schedule}. Images: {data}{folds}.{_scale(first)}"


def _scale(result: Result) -> str:
    """A sentence on the scale of the images in training and test; empty for results that do not state it."""
    scale = result.get("scale", {})
    if "fov_diameter_px" in scale:
        return f" Scale: field of view {scale['fov_diameter_px']:g} pixels wide."
    if "min_extent_mm" in scale:
        return f" Scale: slices of at least {scale['min_extent_mm']:g} mm."
    return ""


def _made_by(results: Sequence[Result]) -> list[str]:
    """The command for every row, and the machines used."""
    rows: dict[tuple[str, Any], list[Result]] = {}
    for result in results:
        rows.setdefault((result["network"], result["recurrences"]), []).append(result)
    commands = []
    for (network, t), same in rows.items():
        seeds = sorted({one["seed"] for one in same if one["seed"] is not None})
        name = network if t in (2, None) else f"{network}, t = {t}"
        made_by = "any of these" if network == OBSERVER else f"`{command(same[0], seeds)}`"
        commands.append(f"- {name}: {made_by}")
    ran_on = sorted(
        {f"{one['device']}; torch {one['versions']['torch']}, MONAI {one['versions']['monai']}" for one in results}
    )
    return [*commands, "", *(f"Ran on {text}." for text in ran_on)]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
