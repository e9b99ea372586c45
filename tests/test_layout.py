"""Mapping, links and disk tell one story, and imports run one way."""

from __future__ import annotations

import ast
import configparser
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONFIG = configparser.ConfigParser()
CONFIG.read(ROOT / "setup.cfg")
FOLDER_OF = dict(
    line.replace(" ", "").split("=")
    for line in CONFIG["options"]["package_dir"].split("\n")
    if line
)
PACKAGES = CONFIG["options"]["packages"].split()

# What each part may import; a later room may use every earlier one.
FLOORS = [
    {
        "distribution",
        "finding",
        "lazy",
        "notebook",
        "saved",
        "theme",
        "wording",
        "store",
        "corpus",
        "planted",
    },
    {"hooks"},
    {"probes"},
    {"analyses"},
    {"report", "demo", "calibration", "cli", "__init__", "__main__"},
]
FLOOR_OF = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}


@pytest.mark.parametrize("name", FOLDER_OF)
def test_each_import_name_is_its_folder(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__file__ is not None
    if "site-packages" in module.__file__:
        pytest.skip("layerscope is installed as a wheel, not in editable mode")
    assert Path(module.__file__).resolve().parent == ROOT / FOLDER_OF[name]


def test_every_package_on_disk_is_shipped() -> None:
    on_disk = {
        ".".join([name, *init.parent.relative_to(ROOT / folder).parts])
        for name, folder in FOLDER_OF.items()
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert on_disk == set(PACKAGES)


@pytest.mark.parametrize("room", ["hooks", "probes", "analyses"])
def test_the_links_point_to_the_root_folders(room: str) -> None:
    link = ROOT / "src" / "layerscope" / room
    if not link.is_symlink():
        pytest.skip("this checkout has no symbolic links")
    assert link.resolve() == ROOT / room


def sources() -> list[tuple[str, Path]]:
    """(room, file) of every module that is shipped."""
    found = []
    for folder in ("hooks", "probes", "analyses"):
        found += [(folder, path) for path in sorted((ROOT / folder).rglob("*.py"))]
    home = ROOT / "src" / "layerscope"
    for path in sorted(home.glob("*.py")):
        found.append((path.stem, path))
    for room in ("store", "corpus", "report", "planted", "demo", "calibration"):
        found += [(room, path) for path in sorted((home / room).rglob("*.py"))]
    return found


def imported_rooms(path: Path) -> set[str]:
    """Rooms of layerscope that a file imports at run time, anywhere in it."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    rooms = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("layerscope"):
            parts = (node.module or "").split(".")
            rooms |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            rooms |= {parts[1] for parts in names if parts[0] == "layerscope" and len(parts) > 1}
            assert not any(parts == ["layerscope"] for parts in names), f"{path} imports the front"
    return rooms


@pytest.mark.parametrize(("room", "path"), sources(), ids=lambda value: str(value).split("/")[-1])
def test_imports_run_one_way(room: str, path: Path) -> None:
    upward = {
        other
        for other in imported_rooms(path)
        if other != room and FLOOR_OF[other] > FLOOR_OF[room]
    }
    assert not upward, f"{path.relative_to(ROOT)} ({room}) imports from above: {sorted(upward)}"


def test_planted_stands_alone() -> None:
    for room, path in sources():
        if room == "planted":
            assert imported_rooms(path) <= {"planted"}, path
