"""Inputs of a generator beside images: latent priors and conditions (labels, attributes, captions, pictures)."""
