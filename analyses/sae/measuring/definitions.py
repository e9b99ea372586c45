"""What each measure is: its name, which carries the definition, its group and its unit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Definition:
    """`<...>` is the mean over rows, `y_hat` the reconstruction of y, `e = y - y_hat`, f the codes."""

    name: str
    group: str
    unit: str


_RECONSTRUCTION = {
    "explained_variance": ("explained variance 1 - <|e|^2> / (<|y|^2> - |<y>|^2)", "share"),
    "explained_variance_mean_of_ratios": (
        "explained variance as mean of ratios <1 - |e|^2 / |y - <y>|^2>", "share"),
    "explained_variance_blind_to_offset": (
        "explained variance blind to a constant offset 1 - sum var(e) / sum var(y)", "share"),
    "r2_around_scalar_mean": (
        "R2 around one number for all dimensions 1 - sum e^2 / sum (y - mean of all y)^2", "share"),
    "normalised_error": ("normalised error <|e|^2 / |y|^2>", "share"),
    "squared_error": ("squared error <|e|^2>", "squared activation"),
    "error_norm": ("error norm <|e|>", "activation"),
    "cosine": ("cosine <y . y_hat / (|y| |y_hat|)>", "cosine"),
    "length_ratio": ("length ratio <|y_hat| / |y|>", "ratio"),
    "reconstruction_bias": ("reconstruction bias <|y_hat|^2> / <y . y_hat>, shrunk below 1", "ratio"),
    "pca_rank": ("PCA rank with this explained variance", "dimensions"),
}  # fmt: skip
_SPARSITY = {
    "l0": ("L0 <number of f != 0>", "latents"),
    "l1": ("L1 <sum f>", "activation"),
    "empty_rows": ("empty rows, share with no f != 0", "share"),
    "dead_share": ("dead share, latents with f = 0 at all rows", "share"),
    "density_median": ("median density of the latents that fired", "share"),
    "dense_share": ("dense share, latents with f != 0 at more than a tenth of the rows", "share"),
    "description_length": (
        "description length L0 (7 + log2 latents), 7 bits for each value", "bits a row"),
}  # fmt: skip
_BEHAVIOUR = {
    "ce_clean": ("cross-entropy of the model as it is", "nats"),
    "ce_replaced": ("cross-entropy with y_hat in place of y", "nats"),
    "ce_zero": ("cross-entropy with 0 in place of y", "nats"),
    "ce_mean": ("cross-entropy with <y> in place of y", "nats"),
    "ce_recovered_zero": (
        "cross-entropy recovered (CE_zero - CE_sae) / (CE_zero - CE_clean)", "share"),
    "ce_recovered_mean": (
        "cross-entropy recovered (CE_mean - CE_sae) / (CE_mean - CE_clean)", "share"),
    "kl": ("KL(clean || with y_hat)", "nats"),
    "kl_recovered_zero": ("KL recovered (KL_zero - KL_sae) / KL_zero", "share"),
    "kl_recovered_mean": ("KL recovered (KL_mean - KL_sae) / KL_mean", "share"),
}  # fmt: skip
_NORMS = {
    "norm_error": ("AFA norm error < ||f| - |z|| / |z| >, z = y - b_dec", "share"),
    "under_activated": ("under-activated, share of rows with |f| < |z|", "share"),
    "elbo_h": ("mean eLBO | |z|^2 - |f|^2 | / ((h - 1) |f|^2), h all latents", "cosine"),
    "elbo_k": ("mean eLBO | |z|^2 - |f|^2 | / ((k - 1) |f|^2), k active latents", "cosine"),
    "elbo_h_max": ("largest eLBO with h", "cosine"),
    "elbo_k_max": ("largest eLBO with k", "cosine"),
    "norm_error_with_bias": (
        "AFA norm error as in the paper's notebook, z = y and the bias one more latent", "share"),
    "elbo_h_with_bias": ("mean eLBO with h, z = y and the bias one more latent", "cosine"),
    "elbo_k_with_bias": ("mean eLBO with k, z = y and the bias one more latent", "cosine"),
}  # fmt: skip
_DICTIONARY = {
    "nearest_cosine": ("nearest cosine, mean over live latents of max cos(d_i, d_j)", "cosine"),
    "coherence": ("coherence, max |cos(d_i, d_j)| of live latents", "cosine"),
    "twins": ("twins, live latents with another decoder row at cosine above .9", "share"),
    "encoder_decoder_cosine": ("encoder-decoder cosine, mean over live latents", "cosine"),
    "mcc": ("MCC, mean |cos| of planted directions and their latents, matched one to one", "cosine"),
    "mmcs": ("MMCS, mean over planted directions of the largest |cos| to a latent", "cosine"),
    "uniqueness": ("uniqueness, distinct nearest planted directions over latents", "share"),
    "precision": ("precision, mean over planted features of their latent", "share"),
    "recall": ("recall, mean over planted features of their latent", "share"),
    "f1": ("F1, mean over planted features of their latent", "share"),
}  # fmt: skip
DEFINITIONS = {
    key: Definition(name, group, unit)
    for group, some in {
        "reconstruction": _RECONSTRUCTION,
        "sparsity": _SPARSITY,
        "behaviour": _BEHAVIOUR,
        "norms": _NORMS,
        "dictionary": _DICTIONARY,
    }.items()
    for key, (name, unit) in some.items()
}
"""Key -> what it is, in the order of the table."""
