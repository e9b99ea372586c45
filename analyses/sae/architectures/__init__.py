"""What SAEs minimise: one small module and one loss for each architecture.

They differ in how codes come from pre-activations and in what is added to the squared error; each
class says both in the first line of its docstring. `catalogue` has them by name, `architecture`
what they have in common, `sparse` and `dense` the products, `auxk` and `terms` what losses share,
`steps` the gradients of steps, `selecting` the largest of a batch.
"""
