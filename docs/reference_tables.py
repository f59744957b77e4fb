"""What docs/reference/ has that is written by hand: logged names, what data sets need, groups, introductions."""

# (name, meaning, when it is logged); angle brackets mark a part of the name that varies
LOGGED_NAMES = [
    (
        "loss/<player>/adversarial",
        "The player's side of `loss.objective`: the discriminator's, the generator's or the encoder's adversarial "
        "loss.",
        "Every `log_every` iterations, for each player that has an adversarial loss. Mean over the iterations "
        "since the last logging step.",
    ),
    (
        "loss/<player>/<term>",
        "A further term of the player's loss, already multiplied by its weight. The name is the term's key under "
        "`loss.penalties` or `model.game.terms`: `loss/discriminator/r1`, `loss/generator/cycle`.",
        "Every `log_every` iterations. Mean over the iterations in which the term was computed.",
    ),
    (
        "D(x)",
        'Mean of the discriminator\'s probability of "real" on real images.',
        "Every `log_every` iterations, from one iteration after the last logging step. Only where the loss defines "
        "such a probability, as the logistic losses do.",
    ),
    (
        "D(G(z))",
        "The same on generated images.",
        "Together with `D(x)`.",
    ),
    (
        "score/real",
        "Mean of the critic's raw score on real images. Larger means more real.",
        "In place of `D(x)` where the loss defines no probability: Wasserstein, hinge, least squares, "
        "relativistic, f-divergences, energies.",
    ),
    (
        "score/fake",
        "The same on generated images.",
        "Together with `score/real`.",
    ),
    (
        "accuracy/real",
        "Share of real images whose score is above the loss's decision threshold.",
        "Every `log_every` iterations, if there is a discriminator.",
    ),
    (
        "accuracy/fake",
        "Share of generated images whose score is not above the decision threshold.",
        "Every `log_every` iterations, if there is a discriminator.",
    ),
    (
        "D(x)/<side>px",
        "`D(x)` of one level of a Laplacian pyramid, whose images are `<side>` pixels wide: `D(x)/8px`. Without a "
        "level: the mean over the levels.",
        "`model=lapgan`.",
    ),
    (
        "D(G(z))/<side>px",
        "`D(G(z))` of one level.",
        "`model=lapgan`.",
    ),
    (
        "score/real/<side>px",
        "`score/real` of one level.",
        "`model=lapgan`, where the loss defines no probability.",
    ),
    (
        "score/fake/<side>px",
        "`score/fake` of one level.",
        "`model=lapgan`, where the loss defines no probability.",
    ),
    (
        "accuracy/real/<side>px",
        "`accuracy/real` of one level.",
        "`model=lapgan`.",
    ),
    (
        "accuracy/fake/<side>px",
        "`accuracy/fake` of one level.",
        "`model=lapgan`.",
    ),
    (
        "D(mismatched)",
        "The same as `D(G(z))` on real images with the captions of other images.",
        "Text-conditional games with `mismatched: true`: `model=gan_cls`, `stackgan`, `stackgan_2`. Only where the "
        "loss defines a probability.",
    ),
    (
        "score/mismatched",
        "The critic's mean score on real images with the captions of other images.",
        "In place of `D(mismatched)` where the loss defines no probability.",
    ),
    (
        "accuracy/mismatched",
        "Share of those pairs that the discriminator rejects.",
        "Text-conditional games with `mismatched: true`.",
    ),
    (
        "objective/k",
        "BEGAN's control variable k, the weight of L(G(z)) in the discriminator's loss (Berthelot 2017, "
        "arXiv:1703.10717, section 3.4).",
        "`loss=equilibrium`.",
    ),
    (
        "objective/convergence",
        "BEGAN's global measure of convergence M = L(x) + |gamma L(x) - L(G(z))| (section 3.4.1).",
        "`loss=equilibrium`.",
    ),
    (
        "augment/p",
        "Probability of each operation of ADA, or share of real images that APA exchanges.",
        "`augment=ada`, `ada_fixed` and `apa`: every `log_every` iterations.",
    ),
    (
        "augment/r_t",
        "E[sign(D(real))] of the last `augment.interval` steps of the critic, which p follows (Karras 2020, "
        "arXiv:2006.06676, section 3). Without an augmentation 2 `accuracy/real` - 1 is the same number of one batch.",
        "Together with `augment/p`.",
    ),
    (
        "lecam/real",
        "LeCam's moving average of the scores of real images.",
        "`+loss/penalty=lecam`.",
    ),
    (
        "lecam/fake",
        "The same of generated images.",
        "`+loss/penalty=lecam`.",
    ),
    (
        "overfitting/score_gap",
        "Mean score of training images minus mean score of held-out images.",
        "`callbacks=overfitting`: 20 times in a run, or every `callbacks.overfitting.every` images.",
    ),
    (
        "overfitting/r_v",
        "The gap, divided by the mean score of training images minus that of fakes: 0 without overfitting, 1 if the "
        "critic takes held-out images for fakes (Karras 2020, arXiv:2006.06676, eq. (1)).",
        "Together with `overfitting/score_gap`.",
    ),
    (
        "log_likelihood/real",
        "Mean log-likelihood of real images under the model, in nats per image.",
        "`model=gmm`: games with a known density and no discriminator.",
    ),
    (
        "log_likelihood/fake",
        "Mean log-likelihood of the model's own samples: minus its entropy.",
        "Together with `log_likelihood/real`.",
    ),
    (
        "reconstruction/rmse",
        "Root of the mean squared error between an image and its reconstruction; pixel values are in [-1, 1].",
        "`model=autoencoder` and `vae`.",
    ),
    (
        "gradient_norm/<player>",
        "L2 norm of the gradient with respect to all weights of the player, before clipping.",
        "Every `log_every` iterations, from the player's first update after the last logging step.",
    ),
    (
        "nonfinite_steps/<player>",
        "Number of updates skipped so far because the loss or the gradient was NaN or infinite.",
        "Every `log_every` iterations: on a CPU once an update was skipped, on a GPU always.",
    ),
    (
        "seconds",
        "Seconds of training until this row, those of resumed parts included; in metrics.csv.",
        "Every row.",
    ),
    (
        "images_per_second",
        "Real images per second, over all processes, since the last logging step.",
        "Every `log_every` iterations.",
    ),
    (
        "epoch",
        "Current epoch, from 0.",
        "Every `log_every` iterations.",
    ),
    (
        "health/diversity",
        "Mean distance between two samples, over the mean distance between two training images. Distances are "
        "Euclidean, between images reduced to at most 16 x 16 pixels.",
        "At each check of `callbacks.training_monitor` (20 per run by default, fewer in short runs).",
    ),
    (
        "health/coverage",
        "Number of different training images that are nearest to some sample, over the number expected of new "
        "data: about 1 for new data, near 0 after mode collapse.",
        "At each check of the training monitor.",
    ),
    (
        "health/copied",
        "Share of samples that are near copies of a training image.",
        "At each check of the training monitor, for games with latents and images of 16 values or more.",
    ),
    (
        "health/ema_lag",
        "Mean distance between the samples of the EMA generator and of the generator itself, from the same latents.",
        "At each check of the training monitor after the first, if there is an EMA generator.",
    ),
    (
        "health/sample_change",
        "Mean distance between samples of the same latents, ten iterations apart.",
        "Ten iterations after each check of the training monitor, if there is a discriminator.",
    ),
    (
        "alarm/discriminator_dominates",
        "1: the discriminator separates all images, and its loss and the generator's gradient have vanished.",
        "When the alarm is raised (1) and when it is cleared (0).",
    ),
    (
        "alarm/collapse",
        "1: diversity or coverage has fallen far below its best value.",
        "When raised and when cleared.",
    ),
    (
        "alarm/memorisation",
        "1: too many samples are near copies of training images.",
        "When raised and when cleared.",
    ),
    (
        "alarm/oscillation",
        "1: samples change too much within ten iterations.",
        "When raised and when cleared.",
    ),
    (
        "alarm/ema_lag",
        "1: the EMA generator's samples are far from the generator's, and stay so.",
        "When raised and when cleared.",
    ),
    (
        "metric/<number>",
        "A metric of the samples of the EMA generator: `metric/fid-classifier`. Names of numbers are in "
        "[metrics.md](metrics.md); numbers that depend on an extractor end in its suffix.",
        "With `callbacks=scored`, 10 times per run by default.",
    ),
]

# data=NAME: what has to be there before a run
DATA_NEEDS = {
    "dataset": "A class of your own, `data._target_=mine.Photos`: a torch Dataset, an iterable set or a data module.",
    "celeba": "A download from the authors' page, https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, into "
    "`data/celeba/`: `img_align_celeba/`, and `list_attr_celeba.txt` for attributes; Kaggle's layout "
    "(`.csv`) works too, and any part of the images.",
    "celeba_captions": "The files of `data=celeba`, with `list_attr_celeba`; captions are made from the attributes.",
    "cifar10": "torchvision's files in `data/`; downloaded if they are missing and the network allows it.",
    "digits": "Nothing: the images come with scikit-learn.",
    "emoji_captions": "A folder with `images/` and `captions.txt` (lines `image,caption`): `data.root=FOLDER`.",
    "emoji_tags": "A folder with `images/` and `captions.txt` (lines `image,caption`): `data.root=FOLDER`.",
    "facades": "The CMP facades of pix2pix in `data/facades/train/`, `val/` and `test/`: photograph and labels "
    "side by side.",
    "faces": "Any folder of images: `data.root=FOLDER`.",
    "fashion_mnist": "torchvision's files in `data/`; downloaded if they are missing and the network allows it.",
    "folder": "Any folder of images: `data.root=FOLDER`. Its subfolders are the classes, if every image is in one.",
    "mnist": "torchvision's files in `data/`; downloaded if they are missing and the network allows it.",
    "paired": "A folder with `trainA/` (inputs) and `trainB/` (images of the same names): `data.root=FOLDER`.",
    "side_by_side": "A folder of images whose left and right halves form a pair: `data.root=FOLDER`.",
    "stacked_mnist": "MNIST's files in `data/`, as for `data=mnist`.",
    "toy": "Nothing: points are drawn from a known density.",
    "unpaired": "A folder with `trainA/` (inputs) and `trainB/` (images), of any names: `data.root=FOLDER`.",
    "utkface": "Images named AGE_GENDER_RACE_TIME.jpg in `data/utkface/`, or `data.root=FOLDER`.",
}

# group: (key that it fills, package, base class or protocol, what a choice describes)
GROUPS = {
    "model": (
        "model",
        "oakleaf.games, oakleaf.networks",
        "oakleaf.games.Game",
        "A system: game, networks, prior, terms.",
    ),
    "model/condition": (
        "model.game.condition",
        "oakleaf.conditioning",
        "oakleaf.conditioning.condition.Condition",
        "What generator and discriminator are conditioned on.",
    ),
    "model/frozen": (
        "model.frozen.NAME",
        "oakleaf.frozen",
        "oakleaf.frozen.network.FrozenNetwork",
        "A network that terms, conditions or critics use and that is not trained.",
    ),
    "model/player": (
        "optim.encoder",
        "oakleaf.optim",
        "oakleaf.optim.player.Player",
        "A further player's optimizer.",
    ),
    "loss": (
        "loss",
        "oakleaf.losses",
        "oakleaf.losses.loss.Loss",
        "Adversarial loss, gradient penalties, constraints.",
    ),
    "loss/divergence": (
        "loss.objective.divergence",
        "oakleaf.losses.divergences",
        "oakleaf.losses.divergences.Divergence",
        "The f of `loss=f_divergence`.",
    ),
    "loss/penalty": (
        "loss.penalties",
        "oakleaf.losses, oakleaf.augment",
        "oakleaf.losses.terms.Term",
        "A further term of the critic, for small data: `+loss/penalty=lecam`.",
    ),
    "augment": (
        "augment",
        "oakleaf.augment",
        "oakleaf.augment.Augmentation",
        "What changes images before the critic sees them.",
    ),
    "optim": (
        "optim",
        "oakleaf.optim",
        "oakleaf.optim.player.Player",
        "Each player's optimizer, and the EMA.",
    ),
    "data": (
        "data",
        "oakleaf.data",
        "oakleaf.data.datamodule.ImageDataModule",
        "A data set.",
    ),
    "data/base": (
        "data",
        "oakleaf.data",
        "oakleaf.data.Images",
        "Defaults that all image sets share.",
    ),
    "data/input": (
        "data.input",
        "oakleaf.data.inputs",
        "oakleaf.data.inputs.Input",
        "How a translator's input is made.",
    ),
    "data/mixture": (
        "data.mixture",
        "oakleaf.data.toy",
        "oakleaf.data.toy.Mixture",
        "The density of `data=toy`.",
    ),
    "trainer": (
        "trainer",
        "lightning.pytorch",
        "lightning.pytorch.Trainer",
        "Device, precision, number of processes.",
    ),
    "callbacks": (
        "callbacks",
        "oakleaf.callbacks",
        "lightning.pytorch.Callback",
        "Logging, samples, checkpoints, alarms.",
    ),
    "logger": (
        "logger",
        "oakleaf.runtime.loggers",
        "lightning.pytorch.loggers.Logger",
        "Where scalars and images go.",
    ),
    "experiment": (
        "all of them",
        "",
        "",
        "A published configuration, pinned over all groups.",
    ),
    "metric": (
        "metric",
        "oakleaf.metrics",
        "oakleaf.metrics.metric.Metric",
        "`evaluate.py`, `callbacks=scored`.",
    ),
    "extractor": (
        "extractor",
        "oakleaf.metrics.extractors",
        "oakleaf.metrics.extractors.Extractor",
        "The features that metrics compare.",
    ),
    "mode": (
        "mode",
        "oakleaf.sampling",
        "oakleaf.sampling.latents.Mode",
        "`sample.py`: what to draw.",
    ),
    "format": (
        "format",
        "oakleaf.export.formats",
        "oakleaf.export.formats.Format",
        "`export.py`: file formats.",
    ),
    "lab": (
        "lab",
        "oakleaf.theory",
        "",
        "`theory.py`: numerical checks of theorems.",
    ),
    "hydra/sweeper": (
        "hydra.sweeper",
        "hydra_plugins.oakleaf_sweepers",
        "",
        "How `-m` chooses its jobs.",
    ),
    "hydra/launcher": (
        "hydra.launcher",
        "Hydra's plugins",
        "",
        "Where the jobs of a sweep run.",
    ),
}

# page or section: its heading and first paragraph
INTRODUCTIONS = {
    "README": """
# Reference

`make reference` writes these pages from `conf/`, from the docstrings and from `docs/reference_tables.py`.
""",
    "models": """
# Systems: `model=`

One file of `conf/model/` is one system: a game, its networks, a prior over latents, and the terms that define it.
`loss=` and `optim=` are those that the file selects; a command line may select others. "Terms of its own" are added
to the adversarial loss and to the loss's penalties ([losses.md](losses.md)).
""",
    "models/notes": """
## Notes

The comment that each file begins with.
""",
    "losses": """
# Losses: `loss=`

A loss is a pair of adversarial losses together with what belongs to them: penalties on the discriminator's
gradient, constraints on its weights, and the normalisation that is allowed in the discriminator (`norm`, which
networks read as `${loss.norm}`). Any loss can be used with any system that has a discriminator; `feature_matching`
needs a discriminator that returns features.
""",
    "losses/divergences": """
## `loss/divergence=`

The divergences of `loss=f_divergence`.
""",
    "losses/penalties": """
## `+loss/penalty=`

Further terms of the critic that any loss can have, for small data: `+loss/penalty=lecam` or
`+loss/penalty=[lecam,consistency]`.
""",
    "losses/terms": """
## Terms

Whatever a player minimises besides its adversarial loss is a term: under `loss.penalties` for the discriminator,
under `model.game.terms.<player>` for any player. `weight` is its factor; `every: n` computes it on every n-th
iteration, n times as heavy. It is logged as `loss/<player>/<its key>`.
""",
    "losses/keys": """
## Keys that every loss has
""",
    "augment": """
# Augmentation: `augment=`

What changes images at random before the critic sees them, real and generated ones alike, in the steps of all players.
Which to take for how much data: [small_data.md](../small_data.md).
""",
    "augment/keys": """
## Their keys
""",
    "augment/classes": """
## Classes without a file in `conf/augment`
""",
    "optim": """
# Optimizers: `optim=`

Each player has its own optimizer. `every: k` updates a player on every k-th iteration, so `optim.generator.every=5`
gives five discriminator updates, each on a fresh batch, per generator update. Columns with two numbers are
discriminator, generator.
""",
    "optim/keys": """
## Keys

Those of the generator; the discriminator has the same, apart from `unrolled`.
""",
    "optim/schedules": """
## Schedules

Any number of an optimizer can change with the number of images seen:

```
'+optim.generator.schedules.lr={_target_: oakleaf.optim.schedules.Linear, to: 0, over: 1000000}'
```
""",
    "data": """
# Data sets: `data=`

Only torchvision's sets are downloaded. `data.root=FOLDER` names another place. Images are decoded and resized once
and kept as bytes in a cache (`data.cache`). "Channels x size" is the default shape; `?` is read from the files.
""",
    "data/inputs": """
## `data/input=`

The input of a translator, made from the image itself: any image set becomes a set of pairs.
""",
    "data/mixtures": """
## `data/mixture=`

The densities of `data=toy`.
""",
    "data/keys": """
## Keys that all image sets share
""",
    "conditions": """
# Conditions: `model/condition=`

A condition turns rows of a batch into the input y that generator and discriminator receive besides latents and
images. The data set must provide these rows.
""",
    "frozen": """
# Frozen networks: `model/frozen=`

Networks that terms, conditions, critics and metrics use and that no player trains
([frozen_networks.md](../frozen_networks.md)). `+model/frozen@model.frozen.eye=label` adds one of the name `eye`.
""",
    "metrics": """
# Metrics: `metric=`

`python evaluate.py checkpoint=RUN metric=[fid,kid]` prints the numbers of a run, each with the same number of
held-out real images (the real-data baseline). `callbacks=scored` computes metrics during training and logs them as
`metric/<number>`. In brackets: which direction is better. A number that depends on an extractor ends in its suffix:
`fid-classifier`. Protocols: [measures.md](../measures.md).
""",
    "metrics/extractors": """
## `extractor=`

The features that metrics compare.
""",
    "modes": """
# Sampling modes

`python sample.py checkpoint=RUN mode=interpolate` writes `grid.png` and `samples.npy` to `out=`.
""",
    "modes/keys": """
## Keys of the modes
""",
    "modes/command": """
## Keys of sample.py
""",
    "experiments": """
# Experiments: `experiment=`

A published configuration, or one found here, over all groups. `python train.py experiment=NAME` trains it; values
may still be overridden. What was measured with some of them: [zoo.md](../zoo.md), [runs.md](../runs.md).
""",
    "theory": """
# Theory labs

`python theory.py lab=NAME` checks a theorem numerically with the framework's own losses. It ends in a plot, a table
and checks that can fail. Results: [theory.md](../theory.md).
""",
    "callbacks": """
# Callbacks: `callbacks=`

`callbacks.NAME=null` removes one, `+callbacks.NAME={_target_: ...}` adds one ([extending.md](../extending.md)).
Intervals are counted in images seen.
""",
    "callbacks/default": """
## `callbacks=default`

The callbacks of every run.
""",
    "callbacks/scored": """
## `callbacks=scored`

The same, and metrics during training.
""",
    "callbacks/overfitting": """
## `callbacks=overfitting`

The default callbacks, and the critic's scores of held-out images beside those of training images.
""",
    "options": """
# Options of the commands

Every key of `conf/train.yaml` and of the other commands' files. Keys of a group (`model`, `data`, `loss`, `optim`,
...) are on the group's own page; `python train.py --help` prints all of them with their values.
""",
    "options/trainer": """
## `trainer=`

Keys of Lightning's `Trainer`.
""",
    "groups": """
# Configuration groups

Each group is a folder of `conf/`. A choice fills one key of the configuration with an object of one package; "kind"
is the class or protocol that the object follows.
""",
    "logged_names": """
# Logged scalars

All scalars, in `metrics.csv`, TensorBoard and Weights & Biases alike. The x-axis is `images`, the number of real
images seen. `<player>` is `discriminator`, `generator` or `encoder`.
""",
}
