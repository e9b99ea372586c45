"""The weights, the config and the tokenizer of the bundled model."""
