"""SAEs that train together end as if each had been trained by itself."""

import pytest
import torch

from layerscope.analyses import sae
from layerscope.analyses.sae.architectures.jumprelu import JumpReLU
from layerscope.analyses.sae.architectures.topk import TopK
from layerscope.analyses.sae.sae import SAE

OPTIONS = {"width": 24, "batch": 64, "tokens": 20 * 64, "dead_after": 200, "progress": False}


def rows(seed: int = 0) -> torch.Tensor:
    return torch.randn(600, 8, generator=torch.Generator().manual_seed(seed)) + 2


def difference(ours: SAE, theirs: SAE) -> float:
    mine, other = ours.state_dict(), theirs.state_dict()
    assert mine.keys() == other.keys()
    return max(float((mine[name] - other[name]).abs().max()) for name in mine)


def test_several_k_equal_single_runs() -> None:
    together = sae.train_together(rows(), k=(2, 4, 8), **OPTIONS)
    apart = [sae.train(rows(), k=k, **OPTIONS) for k in (2, 4, 8)]
    assert [one.k for one in together] == [2, 4, 8]
    assert max(difference(a, b) for a, b in zip(together, apart, strict=True)) < 1e-5
    assert difference(together[0], apart[1]) > 1e-2


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("batchtopk", {"k": (2, 5)}),
        ("matryoshka", {"k": (2, 5)}),
        ("jumprelu", {"k": (2, 5)}),
        ("relu", {"l1": (0.05, 0.5)}),
        ("relu_april", {"l1": (0.05, 0.5)}),
        ("gated", {"l1": (0.05, 0.5)}),
        ("afa", {"seed": (0, 1)}),
    ],
)
def test_other_architectures_too(architecture, options) -> None:
    together = sae.train_together(rows(), architecture=architecture, **options, **OPTIONS)
    ((name, values),) = options.items()
    first = sae.train(rows(), architecture=architecture, **{name: values[0]}, **OPTIONS)
    assert difference(together[0], first) < 1e-5
    assert difference(together[1], first) > 1e-3


def test_several_sites_equal_single_runs() -> None:
    sites = {"a": rows(0), "b": 10 * rows(1)}
    together = sae.train_together(sites, ["a", "b"], k=(2, 4), **OPTIONS)
    assert [(one.site, one.k) for one in together] == [("a", 2), ("a", 4), ("b", 2), ("b", 4)]
    for one in together:
        # The order of rows follows the sites that are read together, so both are read here too.
        alone = sae.train(sites, one.site, k=one.k, **OPTIONS)
        assert difference(one, alone) < 1e-4


def test_gradients_are_clipped_one_by_one() -> None:
    # 1,000 times the rate sends the second out of its mind; the first must not notice.
    wild = sae.train_together(rows(), k=4, lr=(1e-3, 1.0), **OPTIONS)
    calm = sae.train(rows(), k=4, lr=1e-3, **OPTIONS)
    assert difference(wild[0], calm) < 1e-6
    assert difference(wild[1], calm) > 0.1


def test_seeds_differ_and_repeat() -> None:
    one, two = sae.train_together(rows(), k=4, seed=(0, 1), **OPTIONS)
    assert difference(one, two) > 0.1
    assert difference(one, sae.train(rows(), k=4, seed=0, **OPTIONS)) < 1e-6


def test_names_say_what_differs() -> None:
    sites = {"a": rows(0), "b": rows(1)}
    one = sae.train_together(sites, ["a", "b"], k=(2, 4), **OPTIONS)[0]
    assert set(one.history.table["name"]) == {"a, k=2"}
    assert one.about["options"] == {"k": 2}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": (2, 4), "seed": (0, 1, 2)}, "k has 2 values and another option has 3"),
        ({"k": 25}, "k=25 of 24 latents: a row cannot use more latents than there are"),
        ({"batch": 700}, "rows has 600 rows and a batch takes 700; pass batch=600 or fewer"),
        ({"tokens": 10}, "tokens=10 is less than one batch of 64 rows; ask for more"),
        ({"lr": (1e-3, 0.0)}, r"lr=0.0: it must be above 0; None takes the default"),
        ({"clip": 0.0}, r"clip=0.0: it must be above 0"),
        ({"dead_after": 0}, r"dead_after=0: it must be above 0"),
        ({"architecture": JumpReLU(l0=25)}, "l0=25 of 24 latents"),
        ({"width": 0}, "width=0: an SAE has at least 1 latent"),
        ({"precision": "half"}, "precision='half'; there are auto, float32, bfloat16"),
        ({"architecture": TopK(k=(4,)), "k": 3}, "brings its options with it"),
        ({"architecture": 7}, "architecture=7: give a name such as 'topk', or an object"),
        ({"batch": 0}, "batch=0: a batch has at least 1 row"),
    ],
)
def test_what_does_not_fit_is_refused(options, said) -> None:
    k = {} if "architecture" in options else {"k": 2}
    with pytest.raises(ValueError, match=said):
        sae.train_together(rows(), **(OPTIONS | k | options))


def test_an_unknown_architecture_names_those_there_are() -> None:
    with pytest.raises(LookupError, match=r"no architecture 'topkk'.*did you mean 'topk'"):
        sae.train(rows(), architecture="topkk", **OPTIONS)


def test_architectures_are_given_as_objects_too() -> None:
    made = sae.train_together(rows(), architecture=JumpReLU(l0=(2.0, 4.0)), **OPTIONS)
    assert [one.about["options"]["l0"] for one in made] == [2.0, 4.0]


def test_sites_of_two_widths_are_refused() -> None:
    sites = {"a": rows(), "b": rows()[:, :5]}
    with pytest.raises(ValueError, match="need inputs of one width, these have a 8, b 5"):
        sae.train_together(sites, ["a", "b"], k=2, **OPTIONS)
