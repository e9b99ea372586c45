"""Run by an interpreter that has SAELens: reads our folders, and writes its own.

``python saelens_peer.py FOLDER`` takes rows from ``FOLDER/rows.safetensors``. Of each SAE in
``FOLDER/ours`` it leaves codes and reconstructions in a file of the same name. Into
``FOLDER/theirs`` it writes inference folders and training checkpoints of each architecture, with
what SAELens itself computes beside them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

D_IN, LATENTS, D_OUT, K = 16, 48, 12, 5
EXPECTED = "expected.safetensors"
TRAINED = {
    "standard": {},
    "gated": {},
    "jumprelu": {"jumprelu_init_threshold": 0.3},
    "topk": {"k": K},
    "batchtopk": {"k": K},
    "matryoshka_batchtopk": {"k": K, "matryoshka_widths": [16, LATENTS]},
}
EXPORTED = tuple(TRAINED)
FAMILY = ("topk", "batchtopk", "matryoshka_batchtopk")
NORMALISATIONS = (
    "none",
    "expected_average_only_in",
    "covariance_whitening",
    "layer_norm",
    "constant_norm_rescale",
)
USED = {
    "standard": {},
    "gated": {},
    "jumprelu": {},
    "topk": {"k": K},
    "topk_rescaled": {"k": K, "rescale_acts_by_decoder_norm": True},
    "transcoder": {"d_out": D_OUT},
    "skip_transcoder": {"d_out": D_OUT},
    "jumprelu_transcoder": {"d_out": D_OUT},
    "jumprelu_skip_transcoder": {"d_out": D_OUT},
}


def checkpoints() -> list[tuple[str, str, bool, bool]]:
    """Architecture, normalisation, whether codes are rescaled, whether b_dec is subtracted."""
    return [
        (architecture, normalisation, rescaled, subtracts)
        for architecture in TRAINED
        for normalisation in NORMALISATIONS
        for rescaled in ((False, True) if architecture in FAMILY else (False,))
        for subtracts in (True, False)
        # SAELens' own training of a Matryoshka one stops with an error under these two.
        if (architecture, normalisation[:5])
        not in {
            ("matryoshka_batchtopk", "layer"),
            ("matryoshka_batchtopk", "const"),
        }
    ]


def main(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.manual_seed(0)
    x = load_file(folder / "rows.safetensors")["x"]
    for ours in sorted((folder / "ours").iterdir()):
        read(ours, x)
    for name, options in USED.items():
        write_used(folder / "theirs" / f"used-{name}", name.removesuffix("_rescaled"), options, x)
    for architecture in EXPORTED:
        write_exported(folder / "theirs" / f"exported-{architecture}", architecture, x)
    for case in checkpoints():
        write_trained(folder / "theirs" / "-".join(map(str, case)), *case, x)


def read(ours: Path, x: Any) -> None:
    from sae_lens import SAE

    sae = SAE.load_from_disk(ours)
    leave(ours, sae.encode(x), sae(x))


def write_used(path: Path, architecture: str, options: dict[str, Any], x: Any) -> None:
    """An SAE as it is used, with random weights."""
    import torch
    from sae_lens.registry import get_sae_class

    kind, config = get_sae_class(architecture)
    cross = "transcoder" in architecture
    sae = kind(config(d_in=D_IN, d_sae=LATENTS, apply_b_dec_to_input=not cross, **options))
    randomise(sae)
    if hasattr(sae, "threshold"):
        sae.threshold.data = torch.rand(LATENTS)
    sae.save_model(path)
    leave(path, sae.encode(x), sae(x))


def write_exported(path: Path, architecture: str, x: Any) -> None:
    """What a finished training leaves: scales folded in, then the file for inference."""
    from sae_lens import SAE
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.registry import get_sae_training_class
    from sae_lens.training.sae_trainer import SAETrainer

    kind, config = get_sae_training_class(architecture)
    given = {"normalize_activations": "expected_average_only_in"} | TRAINED[architecture]
    sae = kind(config(d_in=D_IN, d_sae=LATENTS, **given))
    randomise(sae)
    logger = LoggingConfig(log_to_wandb=False)
    settings = SAETrainerConfig(
        2048, 256, lr=3e-3, lr_end=0.0, logger=logger, n_batches_for_norm_estimate=4
    )
    SAETrainer(settings, sae, batches(x)).fit()
    sae.save_inference_model(path)
    used = SAE.load_from_disk(path)
    leave(path, used.encode(x), used(x))


def write_trained(
    path: Path, architecture: str, normalisation: str, rescaled: bool, subtracts: bool, x: Any
) -> None:
    """A checkpoint of SAELens' own trainer after a few steps."""
    import torch
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.registry import get_sae_training_class
    from sae_lens.training.sae_trainer import SAETrainer

    options = dict(TRAINED[architecture])
    if architecture in FAMILY:
        options["rescale_acts_by_decoder_norm"] = rescaled
    kind, config = get_sae_training_class(architecture)
    given = {"normalize_activations": normalisation, "apply_b_dec_to_input": subtracts}
    sae = kind(config(d_in=D_IN, d_sae=LATENTS, **given, **options))
    randomise(sae)
    trainer = SAETrainer(
        SAETrainerConfig(2048, 256, lr_end=0.0, logger=LoggingConfig(log_to_wandb=False)),
        sae,
        batches(x),
    )
    scaler = trainer.activation_scaler
    if normalisation == "expected_average_only_in":
        scaler.estimate_scaling_factor(D_IN, trainer.data_provider, 4)
    if normalisation == "covariance_whitening":
        scaler.estimate_whitening(D_IN, trainer.data_provider, 4)
    for _ in range(8):
        trainer.step(next(trainer.data_provider))
    if hasattr(sae, "topk_threshold"):
        sae.topk_threshold = torch.tensor(0.7, dtype=torch.float64)
    trainer.save_checkpoint(path.name, base_path=path.parent)
    with torch.no_grad():
        codes = used_codes(sae, scaler(x), rescaled)
        leave(path, codes, scaler.unscale(sae.decode(codes)))


def used_codes(sae: Any, rows: Any, rescaled: bool) -> Any:
    """What `encode` gives; of a BatchTopK with its threshold, as SAELens exports it."""
    if not hasattr(sae, "topk_threshold"):
        return sae.encode(rows)
    pre = sae.process_sae_in(rows) @ sae.W_enc + sae.b_enc
    pre = pre * sae.W_dec.norm(dim=-1) if rescaled else pre
    return pre.relu() * (pre > sae.topk_threshold)


def batches(x: Any) -> Any:
    while True:
        yield x[:256]


def randomise(sae: Any) -> None:
    """Weights none of which is zero, tied or of norm 1."""
    import torch

    for parameter in sae.parameters():
        parameter.data = 0.4 * torch.randn_like(parameter)


def leave(path: Path, codes: Any, reconstruction: Any) -> None:
    from safetensors.torch import save_file

    found = {"codes": codes.detach(), "reconstruction": reconstruction.detach()}
    save_file({name: x.contiguous() for name, x in found.items()}, path / EXPECTED)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
