"""Full keys for names that are usual in papers and other tools: `lr` is `optim.generator.lr` and another one here."""

from collections.abc import Iterable, Sequence

COMMON_NAMES: dict[tuple[str, ...], tuple[str, ...]] = {  # names: what they may be here, the first ones that exist
    ("lr", "learning_rate", "learning-rate"): ("optim.generator.lr", "optim.discriminator.lr"),
    ("lr_g", "g_lr", "lrg", "lr_generator"): ("optim.generator.lr",),
    ("lr_d", "d_lr", "lrd", "lr_discriminator", "lr_critic"): ("optim.discriminator.lr",),
    ("beta1", "b1", "beta_1"): ("optim.generator.optimizer.betas", "optim.discriminator.optimizer.betas"),
    ("betas", "beta2", "b2", "beta_2"): ("optim.generator.optimizer.betas", "optim.discriminator.optimizer.betas"),
    ("weight_decay", "wd"): ("optim.generator.optimizer.weight_decay", "optim.discriminator.optimizer.weight_decay"),
    ("optimizer", "optimiser"): ("optim",),
    ("n_critic", "ncritic", "critic_iters", "critic_steps", "d_steps", "n_dis"): ("optim.generator.every",),
    ("ema_decay", "ema_beta", "ema_kimg", "ema"): ("optim.ema.half_life",),
    ("grad_clip", "clip_grad", "max_grad_norm", "gradient_clip"): ("optim.generator.clip", "optim.discriminator.clip"),
    ("accumulate", "grad_accum", "gradient_accumulate_every", "gradient_accumulation_steps"): (
        "optim.generator.accumulate", "optim.discriminator.accumulate",
    ),
    ("batch_size", "batch", "bs", "batchsize"): ("data.batch_size",),
    ("image_size", "img_size", "imsize", "im_size", "imageSize", "resolution", "size", "res"): ("data.size",),
    ("channels", "nc", "img_channels", "image_channels"): ("data.channels",),
    ("dataset", "data_name"): ("data",),
    ("dataroot", "data_root", "data_dir", "data_path", "root", "path", "datadir"): ("data.root",),
    ("num_workers", "workers", "n_workers", "n_cpu"): ("data.workers",),
    ("flip", "mirror", "hflip", "horizontal_flip"): ("data.flip",),
    ("num_classes", "n_classes", "classes"): ("data.classes",),
    ("epochs", "num_epochs", "n_epochs", "max_epochs", "niter", "nepochs"): ("trainer.max_epochs",),
    ("kimg", "images", "total_images", "steps", "iterations", "iters", "num_iters", "max_steps"): ("max_images",),
    ("gpus", "num_gpus", "devices", "n_gpus", "gpu", "ngpu", "world_size"): ("trainer.devices",),
    ("device", "accelerator", "cuda"): ("trainer.accelerator", "device"),
    ("precision", "fp16", "amp", "bf16", "mixed_precision"): ("trainer.precision",),
    ("latent_dim", "z_dim", "zdim", "nz", "dim_z", "noise_dim", "latent_size", "z_size"): ("model.game.prior.dim",),
    ("ngf", "g_width", "g_channels", "gf_dim"): ("model.game.generator.width",),
    ("ndf", "d_width", "d_channels", "df_dim"): ("model.game.discriminator.width",),
    ("loss_type", "gan_mode", "gan_type", "adv_loss"): ("loss",),
    ("gp_weight", "lambda_gp", "gp_lambda", "gp"): ("loss.penalties.gradient_penalty.weight", "loss"),
    ("r1_gamma", "gamma", "r1", "r1_weight"): ("loss.penalties.r1.weight", "loss"),
    ("label_smoothing", "smoothing"): ("loss.objective.smoothing",),
    ("outdir", "output_dir", "out_dir", "save_dir", "run_dir", "out", "output"): ("folder", "out"),
    ("ckpt", "checkpoint", "checkpoint_path", "load", "pretrained", "network", "resume_from"): ("checkpoint", "resume"),
    ("n", "num_samples", "n_samples", "num_images", "samples", "n_sample"): ("count", "fake"),
    ("truncation_psi", "trunc", "psi", "trunc_psi"): ("truncation",),
    ("random_seed", "manual_seed", "manualSeed", "rng_seed"): ("seed",),
}  # fmt: skip
MOST = 4  # keys that an answer names
NOTES = {
    "trainer.devices": " (trainer=ddp trainer.devices=2)",
    "optim.ema.half_life": " (in images)",
    "optim.generator.every": " (n_critic=5 is optim.generator.every=5)",
}


def meant_keys(key: str, known: Sequence[str]) -> list[str]:
    """Return the full keys that a key may mean.

    They are those that end with it, or that are below its parent and end with its last part, and those of which that
    part is another name. Of the keys that differ by the player alone all are returned.

    Args:
        key: the unknown key, such as `lr` or `generator.width`.
        known: all keys of the configuration, groups included.
    """
    parent, _, name = key.rpartition(".")
    below = [one for one in known if not parent or one.startswith(f"{parent}.") or one.endswith(f".{key}")]
    ending = sorted((one for one in below if one.endswith(f".{name}")), key=_generator_first)
    listed: Iterable[str] = next((keys for names, keys in COMMON_NAMES.items() if name in names), ())
    common = [one for one in listed if one in below]
    if common and {one.rpartition(".")[2] for one in common} == {common[0].rpartition(".")[2]}:
        return common + [one for one in ending if one not in common and _same_place(one, common[0])][:MOST]
    return common[:1] or ending[:MOST]


def meant_message(key: str, known: Sequence[str]) -> str | None:
    """Return the answer to a key that is usual elsewhere or is the end of a full one; None if it is neither.

    Args:
        key: the unknown key.
        known: all keys of the configuration, groups included.
    """
    meant = meant_keys(key, known)
    if not meant:
        return None
    together = all(_same_place(one, meant[0]) for one in meant)
    *most, last = meant
    names = f"{', '.join(most)} {'and' if together else 'or'} {last}" if most else last
    return f"{key}: did you mean {names}?{NOTES.get(meant[0], '')}"


def _same_place(one: str, other: str) -> bool:
    """Whether two keys differ by the player alone, as `optim.generator.lr` and `optim.discriminator.lr` do."""
    ones, others = one.split("."), other.split(".")
    return len(ones) == len(others) and sum(a != b for a, b in zip(ones, others)) <= 1 and ones[0] == others[0]


def _generator_first(key: str) -> tuple[bool, str]:
    return ".generator." not in key, key
