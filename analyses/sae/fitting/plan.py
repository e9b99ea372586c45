"""Everything that decides how a training ends, besides the rows themselves."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from layerscope.analyses.sae.architectures.architecture import Architecture
from layerscope.analyses.sae.architectures.transcoder import Transcoder

Sites = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A group of SAEs to train together; tuples hold one entry for each of them."""

    inputs: tuple[Sites, ...]
    """Sites whose vectors, side by side, are its rows: one, except for crosscoders."""
    targets: tuple[Sites, ...]
    """Sites that it reconstructs: `inputs`, except for transcoders."""
    architecture: Architecture
    d_in: int
    d_out: int
    latents: int
    steps: int
    batch: int
    rates: tuple[float, ...]
    """Adam's learning rate at its highest."""
    seeds: tuple[int, ...]
    """Of the initial weights."""
    order: int
    """Seed of the order of rows, the same for all."""
    dead_after: int
    """Rows without activity after which a latent counts as dead."""
    clip: float
    """Largest norm of a gradient."""
    scaling: str
    """Units of the rows, see `rows.scaling.fit`."""
    precision: str
    """float32, or bfloat16: products in 16 bits, weights and sums in 32."""

    @property
    def group(self) -> int:
        return len(self.seeds)

    @property
    def sites(self) -> Sites:
        """All that must be read, each once."""
        named = [site for sites in (*self.inputs, *self.targets) for site in sites]
        return tuple(dict.fromkeys(named))

    @property
    def shared(self) -> bool:
        """Whether all SAEs see the same rows."""
        return len(set(self.inputs)) == 1 and len(set(self.targets)) == 1

    @property
    def option(self) -> dict[str, tuple[float, ...]]:
        """Options of the architecture, one value for each SAE."""
        swept = {name: getattr(self.architecture, name) for name in self.architecture.swept}
        return {
            name: values if len(values) == self.group else values * self.group
            for name, values in swept.items()
        }

    def names(self) -> list[str]:
        """What tells each SAE of the group from the others."""
        told: dict[str, tuple[Any, ...]] = {
            "site": tuple("+".join(sites) for sites in self.inputs),
            **self.option,
            "lr": self.rates,
            "seed": self.seeds,
        }
        differing = {name: values for name, values in told.items() if len(set(values)) > 1}
        if not differing:
            return [told["site"][0]] * self.group
        return [
            ", ".join(
                str(values[member]) if name == "site" else f"{name}={values[member]:g}"
                for name, values in differing.items()
            )
            for member in range(self.group)
        ]

    def as_json(self, rows: dict[str, Any]) -> dict[str, Any]:
        """For the checkpoint and the provenance; `rows` says where the rows come from."""
        body = asdict(self) | {
            "architecture": self.architecture.name,
            **asdict(self.architecture),
            "tokens": self.steps * self.batch,
        }
        del body["steps"]
        if isinstance(self.architecture, Transcoder):
            within = self.architecture.inner
            body["inner"] = {"architecture": within.name, **asdict(within)}
        return body | {f"rows.{name}": value for name, value in rows.items()}
