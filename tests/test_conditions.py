"""Conditions: how they reach generator and discriminator, and how samples of one condition are requested."""

from itertools import permutations
from math import log, pi
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.commands import quick
from helpers.composing import SMALL, composed
from helpers.training import Fit, built
from oakleaf.builder.build import build
from oakleaf.builder.load import load
from oakleaf.conditioning.condition import Label
from oakleaf.conditioning.priors import Codes as CodesPrior
from oakleaf.errors import UserError
from oakleaf.losses.terms import Classification, MutualInformation
from oakleaf.metrics.codes import assignment_error, chance_level
from oakleaf.networks import dcgan
from oakleaf.networks.layers import ConditionalNorm
from oakleaf.round import CriticOutput, Round
from oakleaf.sampling import ByClass, Codes, Interpolate

CONDITIONAL = ["cgan", "cdcgan", "acgan", "projection"]


def pictures(root: Path, classes: int = 2, each: int = 8) -> Path:
    """A folder of grey pictures, class k of brightness k."""
    for k in range(classes):
        (root / f"class{k}").mkdir(parents=True)
        for i in range(each):
            value = np.full((16, 16), 255 * k // max(1, classes - 1), np.uint8)
            value[i % 16] = 128
            Image.fromarray(value).save(root / f"class{k}" / f"{i}.png")
    return root


def faces(root: Path, count: int = 16) -> Path:
    """A CelebA with three attributes."""
    (root / "img_align_celeba").mkdir(parents=True)
    lines = [str(count), "Bald Happy Young"]
    for i in range(count):
        Image.new("RGB", (20, 20), (10 * i, 0, 0)).save(root / "img_align_celeba" / f"{i:06d}.png")
        lines.append(f"{i:06d}.png " + " ".join("1" if i >> k & 1 else "-1" for k in range(3)))
    (root / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    return root


def test_the_condition_of_an_unlabelled_image_is_zero() -> None:
    y = Label(3)({"label": torch.tensor([2, -1, 0])})
    assert y.tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("model", CONDITIONAL)
def test_the_label_reaches_generator_and_discriminator(tmp_path: Path, model: str) -> None:
    quiet = ["model.game.generator.dropout=0"] if "dropout" in composed(f"model={model}").model.game.generator else []
    module, data, *_ = built(f"model={model}", "data=digits", *quiet, folder=tmp_path)
    data.setup()
    game = module.game.eval()
    z, label = torch.randn(1, 100).expand(10, -1), torch.arange(10)
    images = game.generate({"latent": z, "label": label})
    assert len({tuple(image.flatten().tolist()) for image in images}) == 10  # one z, ten images
    batch = {"image": images[:1].expand(10, -1, -1, -1), "label": label}
    (round,) = game.play(batch)
    assert torch.equal(round.fake_inputs["label"], label)  # a fake for each real image, of its class
    scores = round.on_real.score
    conditioned = model != "acgan"  # whose D has to classify instead
    assert (len(set(scores.tolist())) == 10) == conditioned
    if not conditioned:
        assert round.on_real.classes.shape == (10, 10)


def test_projection_is_an_inner_product_with_the_features() -> None:
    torch.manual_seed(0)
    critic = dcgan.Discriminator(1, 16, width=4, classes=3, conditioning="projection").eval()
    x, y = torch.randn(5, 1, 16, 16), torch.eye(3)[torch.tensor([0, 1, 2, 0, 1])]
    output = critic(x, y)
    v = critic.projection.weight.T  # [classes, features]
    by_hand = critic.score(output.features).squeeze(1) + torch.einsum("bk,kf,bf->b", y, v, output.features)
    torch.testing.assert_close(output.score, by_hand)


def test_conditional_norm_has_each_classs_gain_and_bias() -> None:
    torch.manual_seed(0)
    norm = ConditionalNorm("batch", 6, classes=2)
    x, y = torch.randn(8, 6, 4, 4), torch.eye(2)[torch.arange(8) % 2]
    plain = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
    gain, bias = 1 + norm.gain(y), norm.bias(y)
    torch.testing.assert_close(norm(x, y), plain * gain[:, :, None, None] + bias[:, :, None, None])


def test_spectral_norm_gives_each_layer_spectral_norm_one() -> None:
    torch.manual_seed(0)
    critic = dcgan.Discriminator(1, 16, width=4, norm="spectral")
    for _ in range(50):  # power iterations
        critic(torch.randn(2, 1, 16, 16))
    for layer in critic.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-3)


def round_with(
    critic: torch.nn.Module | None, classes: torch.Tensor | None = None, code: torch.Tensor | None = None
) -> Round:
    count = len(classes if classes is not None else code)
    images = torch.zeros(count, 1, 1, 1)
    return Round(images, images, lambda x: CriticOutput(torch.zeros(count), classes, code))


def test_classification_is_the_cross_entropy_of_labelled_images() -> None:
    torch.manual_seed(0)
    logits, label = torch.randn(4, 3), torch.tensor([2, -1, 0, -1])
    round = round_with(None, classes=logits)
    round.batch, round.fake_inputs = {"label": label}, {"label": torch.full((4,), -1)}
    by_hand = -(logits.log_softmax(1)[0, 2] + logits.log_softmax(1)[2, 0]) / 2
    torch.testing.assert_close(Classification()(round), by_hand)
    round.batch = round.fake_inputs = {"attributes": (torch.arange(12).view(4, 3) % 2)}
    right = torch.where(round.batch["attributes"] == 1, logits.sigmoid(), 1 - logits.sigmoid())
    torch.testing.assert_close(Classification(fake=False)(round), -right.log().mean())


def test_mutual_information_is_the_likelihood_of_the_code() -> None:
    torch.manual_seed(0)
    prior = CodesPrior(9, categories=[3, 2], continuous=2)
    z = prior(64)
    estimate = torch.randn(64, 7)
    round = round_with(None, code=estimate)
    round.fake_inputs = {"latent": z}
    first, second, numbers = z[:, 2:5].argmax(1), z[:, 5:7].argmax(1), z[:, 7:]
    likely = estimate[:, :3].log_softmax(1)[range(64), first] + estimate[:, 3:5].log_softmax(1)[range(64), second]
    gauss = -0.5 * (numbers - estimate[:, 5:]) ** 2 - 0.5 * log(2 * pi)
    constant = 0.5 * log(2 * pi) * 2
    torch.testing.assert_close(MutualInformation(prior)(round), -(likely + gauss.sum(1)).mean() - constant)


def test_codes_are_sampled_from_their_prior() -> None:
    torch.manual_seed(0)
    prior = CodesPrior(20, categories=[10], continuous=2)
    z = prior(20_000)
    (category,), numbers = prior.parts(prior.code(z))
    assert torch.equal(category.sum(1), torch.ones(20_000))
    assert category.mean(0).sub(0.1).abs().max() < 0.01
    assert numbers.var().item() == pytest.approx(1 / 3, rel=0.03)
    assert z[:, :8].var().item() == pytest.approx(1 / 3, rel=0.03)
    with pytest.raises(UserError, match="the code alone needs 12"):
        CodesPrior(11, categories=[10], continuous=2)


def test_assignment_is_the_best_of_all_permutations() -> None:
    torch.manual_seed(0)
    code, label = torch.randint(4, (60,)), torch.randint(4, (60,))
    by_hand = min(float((torch.tensor(p)[code] != label).float().mean()) for p in permutations(range(4)))
    assert assignment_error(code, label) == pytest.approx(by_hand)
    assert assignment_error(torch.tensor([1, 2, 0]), torch.tensor([0, 1, 2])) == 0


def test_the_chance_level_of_a_code_is_that_of_values_in_random_order() -> None:
    label = torch.arange(10).repeat(200)
    chance = chance_level(label.roll(3), label)  # the code itself has an error of 0
    assert 0.85 < chance < 0.9  # below 1 - 1 / 10, as the best of all matchings is chosen
    assert chance_level(torch.zeros(2000, dtype=torch.long), label) == pytest.approx(0.9)


@pytest.mark.parametrize("model", ["cgan", "acgan", "projection"])
@pytest.mark.slow
def test_conditional_systems_take_folders_and_attributes(fit: Fit, tmp_path: Path, model: str) -> None:
    root = pictures(tmp_path / "pictures")
    options = [f"model={model}", "data=folder", f"data.root={root}", "data.size=16", "data.batch_size=8"]
    module, _ = fit(*options, "max_images=16")
    assert module.game.condition.width == 2
    options = [f"model={model}", "data=celeba", f"data.root={faces(tmp_path / 'faces')}", "data.size=16"]
    module, _ = fit(*options, "model/condition=attributes", "data.batch_size=8", "max_images=16")
    attributes = module.game.sample_inputs(20)["attributes"]
    assert attributes.unique(dim=0).shape[0] > 4  # rows of the data
    assert module.sample({"latent": torch.randn(20, 100), "attributes": attributes}).shape == (20, 3, 16, 16)


@pytest.mark.slow
def test_the_stored_rows_of_a_condition_are_in_the_checkpoint(fit: Fit, tmp_path: Path) -> None:
    options = ["model=cgan", "data=celeba", f"data.root={faces(tmp_path / 'faces')}", "data.size=16"]
    module, trainer = fit(*options, "model/condition=attributes", "data.batch_size=8", "max_images=16")
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = load(tmp_path / "a.ckpt")
    assert torch.equal(loaded.game.condition.stored_rows, module.game.condition.stored_rows)
    assert loaded.game.condition.stored_rows.any()


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["data=folder", "data.root={plain}", "data.size=16"], "model=cgan needs labels, and data=folder has none"),
        (
            ["data=celeba", "data.root={faces}"],
            "conditioned on `label`, and data=celeba has `attributes` .model/condition=",
        ),
        (["data=digits", "data.classes=7"], "data.classes=7: data=digits has 10 classes"),
    ],
)
def test_data_without_labels_are_refused_in_a_sentence(tmp_path: Path, options: list[str], sentence: str) -> None:
    plain = pictures(tmp_path / "plain", classes=1) / "class0"
    roots = {"plain": plain, "faces": faces(tmp_path / "faces")}
    with pytest.raises(UserError, match=sentence):
        build(composed("model=cgan", *[option.format(**roots) for option in options], folder=tmp_path))


def test_a_checkpoint_of_other_classes_is_refused_in_a_sentence(fit: Fit, tmp_path: Path) -> None:
    _, trainer = fit("model=cgan", "data.batch_size=8", "max_images=8")
    trainer.save_checkpoint(tmp_path / "ten.ckpt")
    with pytest.raises(UserError, match="was trained with 10 classes, and this data has 7"):
        load(tmp_path / "ten.ckpt", {"data.classes": 7})


@pytest.mark.slow
def test_a_checkpoint_stores_the_names_of_its_classes(fit: Fit, tmp_path: Path) -> None:
    root = pictures(tmp_path / "pictures", classes=3)
    options = ["data=folder", f"data.root={root}", "data.size=16", "data.batch_size=8", "max_images=16", *SMALL]
    fit("model=cdcgan", *options, folder=tmp_path / "run")
    sampled = [f"checkpoint={tmp_path}/run", "mode.count=4"]
    for condition in ("class2", "2"):
        result = quick("sample", *sampled, f"out={tmp_path}/{condition}", f"condition={condition}", folder=tmp_path)
        assert result.returncode == 0, result.stderr
    assert np.array_equal(*(np.load(tmp_path / name / "samples.npy") for name in ("class2", "2")))
    unknown = quick("sample", *sampled, f"out={tmp_path}/x", "condition=cat", folder=tmp_path)
    assert (
        "condition=cat: there is no class of this name; the classes are 0 class0, 1 class1, 2 class2" in unknown.stderr
    )
    evaluated = ["evaluate", f"checkpoint={tmp_path}/run", "metric=two_sample", "extractor=pixels", "fake=20"]
    assert quick(*evaluated, f"out={tmp_path}/m", folder=tmp_path).returncode == 0
    (root / "class1").rename(root / "class9")  # the other one is now number 1
    for command in (
        quick(*evaluated, f"out={tmp_path}/m", folder=tmp_path),
        quick("train", f"resume={tmp_path}/run", "max_images=32", f"hydra.run.dir={tmp_path}/on", folder=tmp_path),
    ):
        assert command.returncode == 1
        assert "number 1 is `class1`, and here it is `class2`" in command.stderr
    (root / "class0").rename(root / "class1")
    (root / "class2").rename(root / "gone")
    (root / "gone").rename(tmp_path / "gone")
    fewer = quick(*evaluated, f"out={tmp_path}/m", folder=tmp_path)
    assert "the checkpoint was trained with 3 classes, and this data has 2" in fewer.stderr


@pytest.mark.slow
def test_checkpoints_of_older_versions_and_damaged_class_names_are_refused(fit: Fit, tmp_path: Path) -> None:
    fit("model=cdcgan", "data=digits", *SMALL, "max_images=16", folder=tmp_path / "run")
    file = tmp_path / "run" / "checkpoints" / "last.ckpt"
    content = torch.load(file, weights_only=True)
    sampled = quick("sample", f"checkpoint={file}", f"out={tmp_path}/out", "condition=7", folder=tmp_path)
    assert sampled.returncode == 0, sampled.stderr
    for changed in ({"classes": 3}, {"classes": [1]}, {"data": 7}):
        torch.save({**content, "trained_on": {**content["trained_on"], **changed}}, file)
        with pytest.raises(UserError, match="should be a list of names"):
            load(file)
    torch.save({**content, "turn": 1, "images": 16}, file)
    with pytest.raises(UserError, match=r"written by Oakleaf 0\.1, and only version 0\.1\.0 can read it"):
        load(file)


def test_a_label_can_condition_networks_made_for_texts(fit: Fit) -> None:
    module, _ = fit("model=gan_cls", "data=digits", "model/condition=label", *SMALL, "max_images=32")
    assert module.game.condition.width == 10


def test_a_class_can_be_requested_and_nothing_else(tmp_path: Path) -> None:
    module, *_ = built("model=cdcgan", *SMALL, folder=tmp_path)
    condition = module.game.condition
    assert condition.from_index(7, 3).tolist() == [7, 7, 7]
    with pytest.raises(UserError, match="0 to 9"):
        condition.from_index(10, 3)
    inputs, columns = ByClass(rows=3)(module.game, seed=0)
    assert columns == 10
    assert inputs["label"].tolist() == list(range(10)) * 3
    assert all(len(row.unique(dim=0)) == 1 for row in inputs["latent"].split(10))
    inputs, columns = Interpolate(pairs=2, steps=4)(module.game, seed=0)
    assert inputs["label"].tolist() == [0] * 4 + [1] * 4
    unconditional, *_ = built(*SMALL, folder=tmp_path)
    with pytest.raises(UserError, match="has no condition"):
        ByClass()(unconditional.game, seed=0)


def test_mode_codes_changes_one_part_at_a_time(tmp_path: Path) -> None:
    module, *_ = built(
        "model=infogan", "model.game.generator.width=8", "model.game.generator.hidden=8", folder=tmp_path
    )
    inputs, columns = Codes(rows=2)(module.game, seed=0)
    z = inputs["latent"].unflatten(0, (3, 2, columns))  # parts, rows, columns
    assert columns == 10
    assert z[0, 0, :, 62:72].argmax(1).tolist() == list(range(10))
    assert (z[0, :, :, :62] == z[0, :, :1, :62]).all()
    assert (z[0, :, :, 72:] == z[0, :, :1, 72:]).all()
    assert z[2, 1, 0, 73].item() == -2
    assert z[2, 1, -1, 73].item() == 2
    assert (z[2, :, :, :73] == z[2, :, :1, :73]).all()


@pytest.mark.slow
def test_a_pack_is_scored_as_one_image(tmp_path: Path) -> None:
    module, *_ = built("model=dcgan", "model.game.packing=2", *SMALL, folder=tmp_path)
    image = torch.rand(8, 1, 16, 16)
    (round,) = module.game.play({"image": image})
    assert round.real.shape == (4, 2, 16, 16)
    assert torch.equal(round.real[1], image[2:4, 0])  # two images of the batch as channels
    assert round.on_fake.score.shape == (4,)
    assert module.sample(module.game.sample_inputs(3)).shape == (3, 1, 16, 16)
    with pytest.raises(UserError, match="packing=2: the term classification"):
        build(composed("model=acgan", "model.game.packing=2", folder=tmp_path))
    for model in ("gan", "cgan", "cdcgan", "projection", "bigan", "ali"):
        module, *_ = built(f"model={model}", "model.game.packing=3", folder=tmp_path)
        (round,) = module.game.play({"image": torch.rand(8, 1, 16, 16), "label": torch.arange(8)})
        assert round.on_real.score.shape == (2,)


@pytest.mark.slow
def test_a_conditional_gan_learns_its_condition(fit: Fit, tmp_path: Path) -> None:
    """Bright pictures for one class, dark ones for the other."""
    root = pictures(tmp_path / "pictures", each=32)
    options = ["model=cdcgan", "data=folder", f"data.root={root}", "data.size=16", "data.batch_size=16"]
    module, _ = fit(
        *options,
        *SMALL[:2],
        "optim.generator.lr=2e-3",
        "optim.discriminator.lr=2e-3",
        "~callbacks.samples",
        "~callbacks.checkpoint",
        "max_images=1200",
    )
    dark, bright = (
        module.sample({"latent": module.game.prior(32), "label": torch.full((32,), k)}).mean().item() for k in (0, 1)
    )
    assert dark < -0.5
    assert bright > 0.5


def test_a_mode_that_shows_all_classes_refuses_condition(fit: Fit, tmp_path: Path) -> None:
    _, trainer = fit("model=cgan", "data.batch_size=8", "max_images=8")
    trainer.save_checkpoint(tmp_path / "c.ckpt")
    result = quick("sample", f"checkpoint={tmp_path}/c.ckpt", "mode=by_class", "condition=7", folder=tmp_path)
    assert result.returncode == 1
    assert "condition=7: this mode shows all conditions" in result.stderr
    assert not list(tmp_path.rglob("samples.npy"))
