"""What a generator is given: latents from a prior, and conditions computed from the batch.

`priors` has the distributions of latents. `condition` has the interface `Condition`, which encodes a row of the batch
(a label, attributes, features, a picture) as the condition y that generator and discriminator are given; `caption` has
the conditions for texts. Where the rows come from is described in `oakleaf.data`.
"""
