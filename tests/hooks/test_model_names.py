"""What a name means before anything is loaded, and what is said when it means nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerscope.hooks import model_names
from layerscope.hooks.model_names import check_model_name


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, a store and an adapter; the cache of the hub is empty."""
    for name, mark in (
        ("tiny-gpt", "config.json"),
        ("acts", "store.json"),
        ("lora", "adapter_config.json"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / mark).write_text("{}")
    (tmp_path / "build.py").write_text("def small():\n    pass\ndef _hidden():\n    pass\n")
    (tmp_path / "notes.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_names, "_is_cached", lambda name: False)
    return tmp_path


def asked(monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> list[str]:
    """Names that the hub is asked for; it answers with `error`."""
    found: list[str] = []

    def answer(url: str) -> None:
        found.append(url)
        if error is not None:
            raise error

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", answer)
    return found


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tiny-gtp", r"no folder 'tiny-gtp' here; did you mean 'tiny-gpt' \(a model\)\?"),
        ("atcs", r"did you mean 'acts' \(a store\)\?"),
        ("acts", "'acts' is a store of activations"),
        ("lora", "merge it into its model first"),
        ("build.py", r"builds the model: build\.py:small$"),
        ("notes.txt", r"'notes\.txt' is a file; a model is a folder"),
        ("a/b/c", r"no model folder 'a/b/c'; 'a/b' does not exist either"),
        ("./tiny-gtp", r"no model folder '\./tiny-gtp'; in '\.' there is: tiny-gpt"),
    ],
)
def test_slips_cost_no_question_to_the_hub(
    here: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    urls = asked(monkeypatch)
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        check_model_name(name)
    assert urls == []


def test_a_folder_of_a_model_is_taken(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = asked(monkeypatch)
    check_model_name("tiny-gpt")
    assert urls == []


def test_other_names_are_asked_for(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = asked(monkeypatch)
    check_model_name("openai-community/gpt2")
    assert len(urls) == 1
    assert "openai-community/gpt2" in urls[0]


def test_a_cached_model_of_a_near_name_is_taken(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_names, "_is_cached", lambda name: True)
    urls = asked(monkeypatch)
    check_model_name("tiny-gtp")
    assert urls == []


def test_a_hub_out_of_reach_says_what_is_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked(monkeypatch, ConnectionError("no network"))
    with pytest.raises(
        OSError, match=r"there are: acts, tiny-gpt.*cannot be reached \(no network\)"
    ):
        check_model_name("bert-large")


def test_a_name_that_the_hub_lacks(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import RepositoryNotFoundError

    error = RepositoryNotFoundError.__new__(RepositoryNotFoundError)
    Exception.__init__(error, "404")
    asked(monkeypatch, error)
    with pytest.raises(OSError, match="the hub has no model of this name, or it is private"):
        check_model_name("berd-base-uncased")
