"""Parts of `concept_erasure`: what is erased, how it is read and whether the model used it."""
