"""Parts of `sparsity` and `attention_modes`: what is counted while activations pass by."""
