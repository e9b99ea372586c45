"""What the name of a model means: a folder here, a model of the hub; or what was meant instead."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

OURS = {
    "store.json": "a store of activations: give it where a store is taken, or open it with Store.open",
    "finding.json": "a saved finding: read it with Finding.load",
    "adapter_config.json": "an adapter: merge it into its model first (peft: merge_and_unload), and "
    "save that",
}
"""Folders that hold something else than a model, by the file that tells."""
_ALIKE = {"store.json": 0.7, "config.json": 0.8}
"""Above it a name is taken for a slip (difflib's ratio; "atcs" for "acts" gives 0.75). Models of the
hub have names like those of other models, not like those of stores."""


def check_model_name(name: str) -> None:
    """Refuse what is no model, without asking the hub where something here was meant.

    Raises:
        FileNotFoundError, ValueError: as `check_local_name`.
        OSError: the hub does not have it, or is out of reach.
    """
    check_local_name(name)
    if Path(name).is_dir():
        _check_folder(name, Path(name))
    else:
        _ask_hub(name)


def check_local_name(name: str) -> None:
    """Refuse what is no model as far as that can be told from what is here.

    Raises:
        FileNotFoundError: `name` looks like a path, and nothing is there; or nothing is there and
            a folder of nearly this name is.
        ValueError: a file.
    """
    folder = Path(name)
    if folder.is_file():
        raise ValueError(f"{name!r} is a file; {_of_file(folder)}")
    if folder.is_dir():
        return
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise FileNotFoundError(f"no model folder {name!r}; {nearby(folder)}")
    _refuse_slip(name, folder)


def nearby(path: Path) -> str:
    """What there is beside a path that is not there, in words."""
    if not path.parent.is_dir():
        return f"{str(path.parent)!r} does not exist either"
    names = [entry.name for entry in path.parent.iterdir()]
    near = get_close_matches(path.name, names) or _kept(path.parent)[:8]
    there = ", ".join(near) or "nothing with such a name"
    return f"in {str(path.parent)!r} there is: {there}"


def _of_file(file: Path) -> str:
    if file.suffix != ".py":
        return "a model is a folder that save_pretrained wrote, a hub name, or file.py:function"
    made = ", ".join(f"{file}:{name}" for name in _functions(file)) or "it has none"
    return f"name the function in it that builds the model: {made}"


def _functions(file: Path) -> list[str]:
    try:
        body = ast.parse(file.read_bytes()).body
    except (SyntaxError, ValueError):
        return []
    return [part.name for part in body if isinstance(part, ast.FunctionDef) and part.name[0] != "_"]


def _check_folder(name: str, folder: Path) -> None:
    if (folder / "config.json").is_file():
        return
    for mark, what in OURS.items():
        if (folder / mark).is_file():
            raise ValueError(f"{name!r} is {what}")
    inside = [str(folder / one) for one in _kept(folder, ["config.json"])]
    raise FileNotFoundError(
        f"{name!r} is a folder without config.json; a model folder is what save_pretrained writes. "
        + (f"Inside there are: {', '.join(inside[:8])}" if inside else "Nor is there one inside.")
    )


def _refuse_slip(name: str, folder: Path) -> None:
    """A folder of nearly this name is what was meant; that costs no look-up."""
    for mark, alike in _ALIKE.items():
        near = get_close_matches(folder.name, _kept(folder.parent, [mark]), n=1, cutoff=alike)
        if near and not _is_cached(name):
            kind = "a store" if mark == "store.json" else "a model"
            raise FileNotFoundError(
                f"no folder {name!r} here; did you mean {str(folder.parent / near[0])!r} ({kind})? "
                "A model of the hub whose name is that near: download it first and give its folder"
            )


def _kept(folder: Path, marks: Iterable[str] = tuple(_ALIKE)) -> list[str]:
    """Names of the folders in a folder that hold a model or a store."""
    if not folder.is_dir():
        return []
    return sorted({found.parent.name for mark in marks for found in folder.glob(f"*/{mark}")})


def _is_cached(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    try:
        return try_to_load_from_cache(name, "config.json") is not None
    except ValueError:  # the name is none of a hub
        return False


def _ask_hub(name: str) -> None:
    """Ask the hub once for what is not in its cache: transformers would try again for half a minute.

    Raises:
        OSError: the hub does not have it, or is out of reach.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    here = f"there is no local folder {name!r} in {str(Path.cwd())!r}"
    there = _kept(Path())
    models = f" (there are: {', '.join(there[:8])})" if there else ""
    try:
        if not _is_cached(name):
            get_hf_file_metadata(hf_hub_url(name, "config.json"))
    except RepositoryNotFoundError as error:
        raise OSError(
            f"{here}{models}, and the hub has no model of this name, or it is private; check the "
            "spelling at huggingface.co/models, or log in (hf auth login)"
        ) from error
    except (HfHubHTTPError, ValueError):
        return  # it answers, or the name is none of a hub: transformers says what is wrong
    except Exception as error:  # of the HTTP library, which differs between versions
        raise OSError(
            f"{here}{models}, nor is a model of this name in the cache, and the hub cannot be "
            f"reached ({error}); give the path of a model folder"
        ) from error
