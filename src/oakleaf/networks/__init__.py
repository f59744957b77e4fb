"""Network architectures: generators, discriminators, encoders and the layers that they share.

This package holds `torch.nn.Module` classes, each with its architecture and its initial weights. Losses, optimizers and
data do not belong here: `oakleaf.games` combines networks to GANs, `oakleaf.losses` defines what they minimise.

There is one module for each paper or family, named after it (`dcgan`, `sngan`, `unet`, ...). Shared parts are in:

- `layers`: normalisation, maxout, dropout for sampling, initialisation, image sizes;
- `minibatch`: minibatch discrimination;
- `kmeans`: k-means clustering, from which mixture models are initialised.

Conventions that all networks follow:

- The arguments of a constructor are the keys of the network's node in `conf/model/*.yaml`. Their type annotations are
  checked before the network is built.
- `channels` and `size` describe images [B, C, H, W]; `size` is one number for square images or [H, W], in pixels.
- Images are in [-1, 1]. Latents z are [B, latent]; conditions y are [B, condition width] or, in image-to-image
  translation, images [B, C, H, W].
- A generator returns images, or an `oakleaf.round.GeneratorOutput` where a term needs more than the images.
- A discriminator or critic returns an `oakleaf.round.CriticOutput`, or a tensor of scores; a larger score means "more
  real".
- A critic whose output for one sample does not depend on the other samples of the batch sets `per_sample = True`; real
  and fake images may then go through it as one batch. A layer that some option adds, and whose output does depend on
  the others, sets `mixes_images = True` (batch normalisation is recognised without it).
- A network that is initialised from real images has `initialization_images`, the number of images that it needs, and
  `initialize_from`, which receives them once, before the first iteration.

Example:
    >>> from oakleaf.networks import dcgan
    >>> generator = dcgan.Generator(latent=100, channels=3, size=64)
    >>> generator(torch.randn(16, 100)).shape
    torch.Size([16, 3, 64, 64])
"""
