"""A sparse autoencoder as it is used: weights in one canonical form, whatever trained it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from layerscope.analyses.sae import activations

if TYPE_CHECKING:
    from layerscope.analyses.sae.fitting.history import TrainingFinding
    from layerscope.analyses.sae.rows.statistics import Statistics

NORMALISERS = ("none", "layer_norm", "constant_norm")
TENSORS = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold", "r_mag", "b_mag", "W_skip")
EPSILON = 1e-5
"""Added to the standard deviation of a layer norm, as in OpenAI's and SAELens' code."""


class SAE(nn.Module):
    """Activations ``x`` as a sparse sum of directions: ``f = act(pre(x))``, ``x_hat = f W_dec + b_dec``.

    Transcoders (`d_out` is another site's width) and crosscoders (several sites side by side in
    one vector, see `parts`) have the same form. Scales and shifts of the training are folded into
    the weights, so that it takes and gives raw activations.

    Args:
        W_enc: [d_in, latents].
        b_enc: [latents]; the gate's bias where gated.
        W_dec: [latents, d_out]; row i is what latent i writes.
        b_dec: [d_out].
        activation: relu, topk, jumprelu, gated or afa.
        k: Latents kept per row (topk).
        threshold: [latents] (jumprelu).
        r_mag: [latents], logarithm of the magnitudes' scale (gated).
        b_mag: [latents], bias of the magnitudes (gated).
        W_skip: [d_in, d_out], what passes by the latents (skip transcoders).
        subtract_b_dec: Whether the encoder sees ``x - b_dec``.
        normalise: What is done to each row before encoding, and undone after decoding: none,
            layer_norm (minus mean, over unbiased sd + 1e-5; undone by sd and mean) or
            constant_norm (norm sqrt(d)).
        parts: Widths of the sites in a crosscoder's vector; empty otherwise.
        about: Where it was trained, as JSON values: site, target, model, store_key, architecture...

    Raises:
        ValueError: shapes that do not fit each other, k beyond the width, a tensor that the
            activation needs and that is missing; names the tensor.
    """

    W_enc: nn.Parameter
    b_enc: nn.Parameter
    W_dec: nn.Parameter
    b_dec: nn.Parameter
    threshold: nn.Parameter | None
    r_mag: nn.Parameter | None
    b_mag: nn.Parameter | None
    W_skip: nn.Parameter | None
    statistics: Statistics | None
    """Of the rows it was trained on, in raw units; None where unknown."""
    history: TrainingFinding | None
    """How its training went; None where it was not trained here."""

    def __init__(
        self,
        W_enc: Tensor,
        b_enc: Tensor,
        W_dec: Tensor,
        b_dec: Tensor,
        *,
        activation: str = "relu",
        k: int | None = None,
        threshold: Tensor | None = None,
        r_mag: Tensor | None = None,
        b_mag: Tensor | None = None,
        W_skip: Tensor | None = None,
        subtract_b_dec: bool = True,
        normalise: str = "none",
        parts: tuple[int, ...] = (),
        about: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        given = (W_enc, b_enc, W_dec, b_dec, threshold, r_mag, b_mag, W_skip)
        for name, tensor in zip(TENSORS, given, strict=True):
            frozen = None if tensor is None else nn.Parameter(tensor.detach(), requires_grad=False)
            self.register_parameter(name, frozen)
        self.activation = activation
        self.k = k
        self.subtract_b_dec = subtract_b_dec
        self.normalise = normalise
        self.parts = parts
        self.about: dict[str, Any] = dict(about or {})
        self.statistics = None
        self.history = None
        self._check()

    # What it is

    @property
    def n_latents(self) -> int:
        return self.W_enc.shape[1]

    @property
    def d_in(self) -> int:
        return self.W_enc.shape[0]

    @property
    def d_out(self) -> int:
        return self.W_dec.shape[1]

    @property
    def site(self) -> str:
        """The site that it reads; empty where unknown. Of a crosscoder: all, joined by commas."""
        return str(self.about.get("site", ""))

    @property
    def target(self) -> str:
        """The site that it reconstructs; `site` itself except for transcoders."""
        return str(self.about.get("target") or self.site)

    def __repr__(self) -> str:
        kept = f" k={self.k}" if self.k is not None else ""
        shape = f"{self.d_in} -> {self.n_latents:,} latents -> {self.d_out}"
        place = f" at {self.site}" if self.site else ""
        place += f" for {self.target}" if self.target != self.site else ""
        return f"SAE({self.activation}{kept}, {shape}{place})"

    def _repr_html_(self) -> str:
        from layerscope.notebook import card

        active = f"{self.k} active per row" if self.k is not None else ""
        architecture = str(self.about.get("architecture") or self.activation)
        went = self.history.answer() if self.history is not None else ""
        return card(
            "SAE",
            f"at {self.site}" if self.site else "",
            [
                architecture,
                f"{self.d_in:,} -> {self.n_latents:,} latents -> {self.d_out:,}",
                active,
                f"for {self.target}" if self.target != self.site else "",
            ],
            f"<div>{escape(went)}</div>" * bool(went),
            after="analyses.sae.evaluate(sae, store), analyses.sae.features(sae, store)",
        )

    # What it does

    def pre(self, x: Tensor) -> Tensor:
        """Pre-activations [..., latents] of raw rows [..., d_in]."""
        return self._pre(self._normalised(x)[0])

    def encode(self, x: Tensor) -> Tensor:
        """Codes [..., latents], zero or positive, of raw rows [..., d_in]."""
        return self._codes(self._normalised(x)[0])

    def decode(self, codes: Tensor, x: Tensor | None = None) -> Tensor:
        """Reconstruction [..., d_out] of codes [..., latents].

        Args:
            codes: [..., latents].
            x: The rows [..., d_in] that the codes come from; needed with a run-time normaliser
                and with a skip path, ignored otherwise.

        Raises:
            ValueError: `x` is needed and missing.
        """
        written = codes @ self.W_dec + self.b_dec
        if self.normalise == "none" and self.W_skip is None:
            return written
        if x is None:
            raise ValueError(f"{self!r} needs the rows themselves to decode: call decode(codes, x)")
        rows, shift, scale = self._normalised(x)
        written = written if self.W_skip is None else written + rows @ self.W_skip
        return written * scale + shift

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction [..., d_out] of raw rows [..., d_in]."""
        return self.decode(self.encode(x), x)

    # How

    def _normalised(self, x: Tensor) -> tuple[Tensor, Tensor | float, Tensor | float]:
        """Rows as the encoder wants them, and the shift and scale that undo it."""
        if x.shape[-1] != self.d_in:
            raise ValueError(
                f"rows of width {x.shape[-1]} for {self!r}, which reads {self.d_in}; give rows of "
                f"{self.site or 'the site'} of the model that it was trained on"
            )
        x = x.to(self.W_enc.dtype)
        if self.normalise == "layer_norm":
            shift = x.mean(-1, keepdim=True)
            scale = x.std(-1, keepdim=True)
            # Undone without the epsilon, as in OpenAI's, SAELens' and top-afa-sae's code.
            return (x - shift) / (scale + EPSILON), shift, scale
        if self.normalise == "constant_norm":
            scale = x.norm(dim=-1, keepdim=True) / self.d_in**0.5
            return x / scale, 0.0, scale
        return x, 0.0, 1.0

    def _pre(self, rows: Tensor) -> Tensor:
        centred = rows - self.b_dec if self.subtract_b_dec else rows
        return centred @ self.W_enc + self.b_enc

    def _codes(self, rows: Tensor) -> Tensor:
        pre = self._pre(rows)
        if self.activation == "topk":
            assert self.k is not None
            return activations.topk(pre, self.k)
        if self.activation == "jumprelu":
            assert self.threshold is not None
            return activations.jumprelu(pre, self.threshold)
        if self.activation == "gated":
            assert self.r_mag is not None
            assert self.b_mag is not None
            return activations.gated(pre, self.b_enc, self.r_mag, self.b_mag)
        if self.activation == "afa":
            target = (rows - self.b_dec if self.subtract_b_dec else rows).norm(dim=-1)
            return activations.afa(pre, self.W_dec.norm(dim=1), target)
        return pre.relu()

    def _check(self) -> None:
        if self.activation not in activations.KINDS:
            raise ValueError(
                f"activation {self.activation!r}; there are {', '.join(activations.KINDS)}"
            )
        if self.normalise not in NORMALISERS:
            raise ValueError(f"normalise {self.normalise!r}; there are {', '.join(NORMALISERS)}")
        self._check_shapes()
        needed = {"topk": ("k",), "jumprelu": ("threshold",), "gated": ("r_mag", "b_mag")}
        for name in needed.get(self.activation, ()):
            if getattr(self, name) is None:
                raise ValueError(f"activation {self.activation!r} needs {name}, which is missing")
        if self.threshold is not None and bool((self.threshold < 0).any()):
            lowest = float(self.threshold.min())
            raise ValueError(f"threshold goes down to {lowest:.4g}: codes are zero or positive")
        if self.k is not None and not 1 <= self.k <= self.n_latents:
            raise ValueError(f"k = {self.k} of {self.n_latents:,} latents: choose 1 to that many")

    def _check_shapes(self) -> None:
        if self.W_enc.ndim != 2 or self.W_dec.ndim != 2:
            raise ValueError("W_enc is [d_in, latents] and W_dec [latents, d_out], both matrices")
        latents = (self.n_latents,)
        wanted = {
            "W_dec": (self.n_latents, self.d_out),
            "b_enc": latents,
            "b_dec": (self.d_out,),
            "threshold": latents,
            "r_mag": latents,
            "b_mag": latents,
            "W_skip": (self.d_in, self.d_out),
        }
        for name, shape in wanted.items():
            tensor = getattr(self, name)
            if tensor is not None and tuple(tensor.shape) != shape:
                raise ValueError(
                    f"{name} has shape {list(tensor.shape)}, with W_enc {list(self.W_enc.shape)} "
                    f"it must be {list(shape)}"
                )
        if self.subtract_b_dec and self.d_in != self.d_out:
            raise ValueError(
                f"subtract_b_dec with d_in {self.d_in} and d_out {self.d_out}: the encoder cannot "
                "subtract a bias of another width; pass subtract_b_dec=False"
            )
