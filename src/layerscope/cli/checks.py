"""What the command line names, checked while it is read: before torch is loaded, and before the work."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from layerscope.saved import refuse_store_or_model


def model(name: str | None) -> str | None:
    """A model's name, unless it names something of ours, or nothing that is here.

    Raises:
        ValueError: a file of texts, a store or a finding.
        FileNotFoundError: nothing there.
    """
    if name is None or _is_function(name):
        return name
    path = Path(name)
    if path.is_file() and _is_texts(name):
        raise ValueError(
            f"{name} is a file of texts, not a model; the model comes before the texts"
        )
    _refuse_missing_texts(name)
    if (path / "store.json").is_file():
        of = as_json(path / "store.json").get("about", {}).get("model")
        read = f", which dump read from {of}" if of else ""
        raise ValueError(
            f"{name} is a store of activations{read}; this needs the model itself. "
            f"Of a store: layerscope probe {name}, words, geometry, similarity, survey"
        )
    return source(name)


def source(name: str | None) -> str | None:
    """A store, or a model's name.

    Raises:
        ValueError: a file, or a folder with something else.
        FileNotFoundError: nothing there.
    """
    if name is None or _is_function(name):
        return name
    path = Path(name)
    if (path / "finding.json").is_file():
        raise ValueError(f"{name} is a saved finding; to see it: layerscope report {name}")
    if path.is_file() and _is_texts(name):
        raise ValueError(
            f"{name} is a file of texts; a model or a store comes first, then the texts"
        )
    _refuse_missing_texts(name)
    if not (path / "store.json").is_file():
        from layerscope.hooks.model_names import check_local_name

        check_local_name(name)
    return name


def sources(names: list[str] | None) -> list[str] | None:
    """Several of them."""
    for name in names or ():
        source(name)
    return names


def store(folder: str) -> str:
    """A folder of activations.

    Raises:
        FileNotFoundError: it is none; says what it is, and names the stores nearby.
    """
    path = Path(folder)
    if (path / "store.json").is_file():
        return folder
    if (path / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder} is a model, not a store; first: layerscope dump {folder} TEXTS --out STORE"
        )
    what = "is not there" if not path.exists() else f"is a {'folder' if path.is_dir() else 'file'}"
    near = _stores_near(path)
    there = f"there is: {', '.join(near)}" if near else "layerscope dump writes one"
    raise FileNotFoundError(f"{folder} {what}, not a store of activations; {there}")


def texts(name: str | None) -> str | None:
    """Texts that can be read.

    Raises:
        FileNotFoundError: nothing there, with the nearest names.
        ValueError: of no kind that can be read, or of several.
    """
    if name is not None:
        from layerscope.corpus.files import files_at, kind_of
        from layerscope.corpus.reading import KINDS

        if (Path(name) / "store.json").is_file():
            raise ValueError(
                f"{name} is a store, which is given in place of the model, not of texts"
            )
        found, _ = files_at(Path(name).expanduser(), KINDS)
        for file in found:
            kind_of(file, KINDS)
    return name


def findings(paths: list[Path]) -> list[Path]:
    """Folders of saved findings.

    Raises:
        FileNotFoundError, ValueError: one that is not there, or something else; says what it is.
    """
    for path in paths:
        if path.suffix.lower() in (".html", ".htm"):
            raise ValueError(
                f"{path} is a page, as report writes them; give the folders of findings that --out "
                f"of other commands wrote, and --out {path} for the page"
            )
        if path.is_file():
            raise ValueError(
                f"{path} is a file; a saved finding is a folder: {_findings_near(path)}"
            )
        if not path.is_dir():
            raise FileNotFoundError(f"no folder {path}; {_findings_near(path)}")
        if (path / "store.json").is_file():
            raise ValueError(
                f"{path} is a store of activations, not a finding; first: "
                f"layerscope probe {path} --out FINDING"
            )
        if (path / "config.json").is_file() and not (path / "finding.json").is_file():
            raise ValueError(f"{path} is a model, not a finding; first: layerscope survey {path}")
    return paths


def _findings_near(path: Path) -> str:
    there = sorted(str(one.parent) for one in path.parent.glob("*/finding.json"))
    near = get_close_matches(str(path), there, n=4, cutoff=0.5) or there[:8]
    if near:
        return f"there is: {', '.join(near)}"
    return "other commands save one with --out FOLDER"


def page(path: Path) -> Path:
    """The file that a page is to be written to.

    Raises:
        ValueError: a folder, or a name that a browser does not open as a page.
    """
    if path.is_dir():
        raise ValueError(
            f"--out {path} is a folder; give a file in it: --out {path / 'report.html'}"
        )
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(
            f"--out {path}: a page is named .html; try --out {path.with_name(f'{path.name}.html')}"
        )
    _refuse_file_above(path)
    return path


def folder(path: Path | None) -> Path | None:
    """The folder that a finding or an SAE is to be written to.

    Raises:
        ValueError: a file, a store or a model.
    """
    if path is not None:
        _refuse_file_at_or_above(path)
        refuse_store_or_model(path)
    return path


def new_store(path: Path | None) -> Path | None:
    """The folder of a store that is to be made, or to be gone on with.

    Raises:
        ValueError: a file, or a folder of something else.
    """
    if path is not None:
        _refuse_file_at_or_above(path)
    if path is not None and path.is_dir():
        there = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
        if there and not {"store.json", "shards", "locks"} & set(there):
            raise ValueError(
                f"--out {path} holds other files ({', '.join(there[:4])}); a store needs a folder of "
                f"its own: --out {path / 'store'}"
            )
    return path


def as_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_function(name: str) -> bool:
    return name.rpartition(":")[0].endswith(".py")


def _is_texts(name: str) -> bool:
    from layerscope.corpus.reading import KINDS

    return Path(name.removesuffix(".gz")).suffix.lower() in set(KINDS) - {".py"}


def _refuse_missing_texts(name: str) -> None:
    """A name like that of a file of texts is no name of a model, so the hub need not be asked."""
    if _is_texts(name) and not Path(name).exists():
        raise FileNotFoundError(
            f"no file {name!r}; its name is that of a file of texts, and what comes first is the model"
        )


def _refuse_file_at_or_above(path: Path) -> None:
    if path.is_file():
        raise ValueError(f"{path} is a file; what is saved here is a folder: give a new name")
    _refuse_file_above(path)


def _refuse_file_above(path: Path) -> None:
    above = next((folder for folder in path.parents if folder.exists()), None)
    if above is not None and not above.is_dir():
        raise ValueError(f"{path}: {above} is a file, not a folder")


def _stores_near(path: Path) -> list[str]:
    """Stores inside a folder, else beside the path, nearest names first."""
    place = path if path.is_dir() else path.parent
    found = {one.parent.name: str(one.parent) for one in sorted(place.glob("*/store.json"))}
    close = get_close_matches(path.name, found, n=3, cutoff=0.5)
    return [found[name] for name in close or list(found)[:8]]
