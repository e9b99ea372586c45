"""At the model: find its parts, read them, and bring what was read to disk.

Which file to open:

- *What a user calls*: `anatomy`, `capture`, `extract`, `sites` (names), `load`, `twin`.
- *How an anatomy is found*: `reading` goes through the steps. `structure` and `stacks` ask the model
  what it declares, `example` makes an input, `observe` records one pass, `chain` links the blocks,
  `sums` and `layout` read one block, `naming` names its parts, `head` and `tail` follow the stream to
  the logits, `again` asks what one pass left open, `checks` gives the verdicts. `anatomy_text`,
  `anatomy_finding` and `anatomy_figure` show them; `shapes` writes shapes as letters.
- *How a site is read*: `places` says where its tensor is, `watch` attaches to it, `passes` and `ledger`
  keep count within a forward pass, `live` and `kept` hold tensors, `quiet` leaves no trace.
- *Inside attention*: `attention` hears it, at the `interface` of transformers or `inline` in the torch
  functions a module calls; `pattern` makes the probabilities that fused kernels never make.
- *From corpus to store*: `feeds` (texts, by `chunks`) and `sample_feed` (tensors) make batches, `gather`
  turns site tensors into rows, `filling` runs and writes.
"""
