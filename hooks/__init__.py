"""At the model: find its parts, read them, write them, run them in part, and bring it all to disk.

What a user calls is in the files here; how it is done, in the folder beside it:

- `anatomy`, `sites` (names) and `places` (where a name's tensor is): `locating`. `reading` goes through
  the steps: `structure` and `stacks` ask the model what it declares, `example` makes an input, `observe`
  records one pass, `chain` links the blocks, `sums` and `layout` read one block, `naming` names its
  parts, `head` and `tail` follow the stream to the logits, `again` asks what one pass left open,
  `silent` finds parts that add nothing, `checks` gives the verdicts.
- `capture`: `listening`. `watch` attaches to sites, `passes` and `ledger` keep count within a forward
  pass, `live` and `kept` hold tensors. `quiet` leaves no trace.
- Both reading and writing inside attention: `attending`. It is met at the `interface` of transformers,
  `inline` in the torch functions a module calls, or `fused`; `hearing` brings all `parties` to it in
  order; `pattern` makes the probabilities that fused kernels never make; `cutting` takes edges away.
- `edits`: `editing`. `changes` make each `change`, for the `spot` that `positions` choose (`others`: what
  other rows have); `writing` attaches them as `writable` plans it, `offsets` counting positions.
- `replay`: `replaying`. `rewire` takes the blocks out of the model's own pass, `stage` runs them one by
  one; `recording` is the pass they are taken from. A `what_if` becomes rows of `lanes`, a `sweep` sends
  them through in `batches` `by_blocks` or `by_hooks`, `trust` decides which; `decode` generates,
  `program` runs blocks in another order, `outcome` puts results together. `unembed` is the head alone;
  `bypass` leaves blocks out for good.
- `extract`: `extracting`. `feeds` (texts, by `chunks`) and `sample_feed` (tensors) make batches, `gather`
  turns site tensors into rows, `filling` runs and writes.
- `load`, `prompts`, `twin`: models, prompts, and models that have learned nothing.
"""
