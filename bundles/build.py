"""Write the configurations of the bundles from what they share: `make bundles`.

A bundle whose folder has a `delta.json` names there the sources in `bundles/shared` that it is made of, and what
differs. The first source is a folder with each configuration, and the metadata, complete. Each further one, and the
bundle's own `delta.json`, says under the name of a configuration what it changes there, as MONAI's `--config_file`
merges files, and under `all` what it changes wherever the key is. `{bundle}` stands for the bundle's name.

What comes out, `configs/*.json`, needs none of this. Every bundle also gets `logging.conf`, and in its root, for
`--config_file bundles/NAME/train.json`, copies of the three files that MONAI reads there.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv

BUNDLES = Path(__file__).resolve().parent
IN_ROOT = ("train.json", "metadata.json", "logging.conf")
WIDTH = 120


def built(bundle: Path) -> dict[str, str]:
    """The generated files of a bundle: path in its folder -> content."""
    files = {"configs/logging.conf": (bundle.parent / "shared" / "logging.conf").read_text(encoding="utf-8")}
    files |= {f"configs/{name}.json": text_of(config) for name, config in merged(bundle).items()}
    for name in IN_ROOT:
        path = f"configs/{name}"
        files[name] = files[path] if path in files else (bundle / path).read_text(encoding="utf-8")
    return files


def merged(bundle: Path) -> dict[str, dict[str, Any]]:
    """The configurations that a bundle's `delta.json` describes; none where there is no such file."""
    if not (bundle / "delta.json").is_file():
        return {}
    delta = load(bundle / "delta.json")
    shared = bundle.parent / "shared"
    first, *others = delta.pop("shared")
    deltas = [*(load(shared / f"{name}.json") for name in others), delta]
    configs = {path.stem: load(path) for path in sorted((shared / first).glob("*.json"))}
    if unknown := {name for each in deltas for name in each} - {"all", *configs}:
        raise SystemExit(f"{bundle / 'delta.json'}: no configuration is called {', '.join(sorted(unknown))}")
    for name, config in configs.items():
        complete = not any("#" in key for key in config)  # others override a complete one and keep their keys
        for each in deltas:
            changes = {key: value for key, value in each.get("all", {}).items() if key.partition("#")[0] in config}
            changes |= each.get(name, {})
            config = merge(config, changes) if complete else {**config, **changes}
        if "bundle_root" in config:
            config["bundle_root"] = config["bundle_root"].replace("{bundle}", bundle.name)
        configs[name] = config
    return configs


def merge(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """As MONAI merges a later configuration file into an earlier one."""
    parser = ConfigParser(config)
    for key, value in changes.items():
        merge_kv(parser, key, value)
    result: dict[str, Any] = parser.get()
    return result


def load(path: Path) -> dict[str, Any]:
    """A JSON file."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def text_of(config: dict[str, Any]) -> str:
    """JSON with short lists of numbers or words on one line."""

    def on_one_line(match: re.Match[str]) -> str:
        line = re.sub(r"\n\s+", " ", match[1])
        start = match.string.rfind("\n", 0, match.start()) + 1
        return f"[{line}]" if match.start() - start + len(line) + 3 <= WIDTH else match[0]

    text = json.dumps(config, indent=4, ensure_ascii=False)
    return re.sub(r"\[\n\s+([^\[\]{}]+?)\n\s+\]", on_one_line, text) + "\n"


def by_hand() -> Iterator[Path]:
    """The files of JSON that nothing generates."""
    yield from sorted((BUNDLES / "shared").rglob("*.json"))
    for bundle in bundles():
        generated = built(bundle)
        for path in sorted([*bundle.glob("*.json"), *(bundle / "configs").glob("*.json")]):
            if path.relative_to(bundle).as_posix() not in generated:
                yield path


def bundles() -> list[Path]:
    """The folders of the bundles, those included of which nothing is built yet."""
    kept = {path.parents[1] for path in BUNDLES.glob("*/configs/metadata.json")}
    return sorted(kept | {path.parent for path in BUNDLES.glob("*/delta.json")})


def main() -> int:
    """Write what changed, then list what is kept by hand."""
    for bundle in bundles():
        for name, text in built(bundle).items():
            path = bundle / name
            if path.is_symlink() or not path.is_file() or path.read_text(encoding="utf-8") != text:
                path.parent.mkdir(exist_ok=True)
                path.unlink(missing_ok=True)
                path.write_text(text, encoding="utf-8", newline="\n")
                print(f"written: {path.relative_to(BUNDLES.parent)}")
    print("by hand, lines:")
    counts = {path.relative_to(BUNDLES.parent): len(path.read_text("utf-8").splitlines()) for path in by_hand()}
    for path, count in counts.items():
        print(f"{count:6} {path}")
    print(f"{sum(counts.values()):6} together")
    return 0


if __name__ == "__main__":
    sys.exit(main())
