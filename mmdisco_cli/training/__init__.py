"""Training of a built-in base model, or of the discriminator that joins several.

`run` is the command from top to bottom, `loop` the steps of an optimiser and the context that all the others are given.
`backbone` and `discriminator` are the two things that can be trained: their clips and fakes come from `data`, their
noise from `batch`, what a discriminator minimises from `losses`, and `report` measures and exports them. `directory`,
`checkpoint` and `metrics` write what lies in the folder of a run.
"""
