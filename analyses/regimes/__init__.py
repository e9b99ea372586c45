"""Parts of `learning_regime`: checkpoints, what is compared of them, the finding and its figure."""
