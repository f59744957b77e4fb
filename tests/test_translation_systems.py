"""StarGAN, CUT and SRGAN: their terms and networks against written-out references."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from helpers.composing import FP32, composed
from helpers.training import Fit
from oakleaf.builder.build import build
from oakleaf.builder.load import load
from oakleaf.errors import UserError
from oakleaf.losses.contrastive import PatchNCE
from oakleaf.networks import srgan, stargan
from oakleaf.networks.resnet import ResNet
from oakleaf.round import Round


def contrast(head: nn.Module, query: Tensor, key: Tensor, places: list[int], temperature: float) -> float:
    """Eq. (3) of Park 2020, written out for one layer: the mean over images and places."""
    total, count = 0.0, 0
    for one, other in zip(query.flatten(2), key.flatten(2)):
        q = [nn.functional.normalize(head(one[:, s]), dim=0) for s in places]
        k = [nn.functional.normalize(head(other[:, s]), dim=0) for s in places]
        for s in range(len(places)):
            exponents = [math.exp(float(q[s] @ k[t]) / temperature) for t in range(len(places))]
            total, count = total - math.log(exponents[s] / sum(exponents)), count + 1
    return total / count


def test_patch_nce_is_the_written_out_sum_and_gives_no_gradient_to_the_originals() -> None:
    torch.manual_seed(0)
    generator = ResNet(2, 2, 16, width=4, blocks=1)
    term = PatchNCE([0, 4], [2, 8], patches=1000, width=5, temperature=0.5, identity=False)
    for head in term.heads:
        nn.init.normal_(head[0].weight)
    x, fake = torch.rand(3, 2, 16, 16) * 2 - 1, (torch.rand(3, 2, 16, 16) * 2 - 1).requires_grad_()
    x.requires_grad_()
    loss = term.contrast(generator, fake, x)
    keys, queries = generator.features(x, [0, 4]), generator.features(fake, [0, 4])
    expected = [
        contrast(head, q, k, list(range(q.shape[2] * q.shape[3])), 0.5)
        for head, q, k in zip(term.heads[1:], queries[1:], keys[1:])
    ]
    second = PatchNCE([4], [8], patches=1000, width=5, temperature=0.5, identity=False)
    second.heads[0].load_state_dict(term.heads[1].state_dict())
    assert float(second.contrast(generator, fake, x)) == pytest.approx(expected[0], abs=1e-5)
    loss.backward()
    assert x.grad is None and fake.grad is not None and fake.grad.abs().sum() > 0
    assert all(weight.grad is not None for weight in term.parameters())


def test_patch_nce_is_least_for_the_originals_and_includes_the_identity() -> None:
    torch.manual_seed(1)
    generator = ResNet(1, 1, 16, width=4, blocks=1)
    term = PatchNCE([0], [1], patches=40, identity=True)
    nn.init.normal_(term.heads[0][0].weight)
    x = torch.rand(2, 1, 16, 16) * 2 - 1
    same, other = (float(term.contrast(generator, image, x)) for image in (x, torch.rand(2, 1, 16, 16)))
    assert same < other
    round = Round(x, x, lambda x: x, fake_inputs={"input": x})
    round.networks = {"generator": generator}
    torch.manual_seed(2)
    both = float(term(round))
    torch.manual_seed(2)
    parts = float(term.contrast(generator, x, x)), float(term.contrast(generator, generator(x), x))
    assert both == pytest.approx(sum(parts) / 2, abs=1e-6)


def test_the_perceptrons_of_patch_nce_are_trained_by_the_generators_optimizer(fit: Fit, tmp_path: Path) -> None:
    options = ["model=cut", "data/input=grey", "data.size=16", "data.batch_size=4", "max_images=8"]
    options += ["model.game.generator.width=4", "model.game.discriminator.width=4", "model.game.discriminator.patch=34"]
    module, _ = fit(*options, folder=tmp_path)
    names = [name for name, _ in module.trained["generator"]]
    assert any(name.startswith("terms.nce.heads.0.") for name in names)
    state = module.state_dict()
    assert torch.equal(load(tmp_path).game.state_dict()["terms.generator.nce.heads.0.0.weight"],
                       state["game.terms.generator.nce.heads.0.0.weight"])  # fmt: skip


def test_layers_of_the_resnet_are_those_of_its_forward_pass() -> None:
    network = ResNet(1, 1, 16, width=4, blocks=1)
    x = torch.randn(2, 1, 16, 16)
    padded, last = network.features(x, [0, len(network.layers) - 1])
    assert padded.shape == (2, 1, 22, 22) and torch.equal(last, network(x))
    with pytest.raises(UserError, match="the generator has layers 0 to"):
        network.features(x, [99])


@pytest.mark.parametrize(("factor", "size"), [(2, [16, 20]), (4, 16), (8, 32)])
def test_super_resolution_begins_near_the_enlarged_image(factor: int, size: int | list[int]) -> None:
    network = srgan.SRResNet(3, 3, size, factor, width=8, blocks=2)
    height, width = (size, size) if isinstance(size, int) else size
    small = torch.rand(2, 3, height // factor, width // factor) * 1.6 - 0.8
    enlarged = interpolate(small, (height, width), mode="bicubic")
    result = network(enlarged)
    assert result.shape == enlarged.shape and (result - enlarged).abs().max() < 0.2
    assert network.eval()(10 * enlarged).abs().max() <= 1
    with pytest.raises(UserError, match="a power of two"):
        srgan.SRResNet(3, 3, 24, 3)
    with pytest.raises(UserError, match="nearest"):
        srgan.SRResNet(3, 3, 18, 4)


@pytest.mark.parametrize(("size", "channels", "classes"), [(16, 1, 3), ([32, 24], 3, 40), (128, 3, 5)])
def test_the_networks_of_stargan_have_the_shapes_of_the_paper(
    size: int | list[int], channels: int, classes: int
) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    generator = stargan.Generator(channels, classes, size, width=4, blocks=1)
    critic = stargan.Discriminator(channels, classes, size, width=2)
    x, y = torch.randn(2, channels, height, width), torch.rand(2, classes)
    assert generator(x, y).shape == x.shape and generator(x, y).abs().max() <= 1
    output = critic(x)
    assert output.classes is not None and output.classes.shape == (2, classes) and output.score.shape[:2] == (2, 1)
    if size == 128:
        assert output.score.shape == (2, 1, 2, 2)  # table 5: h / 64
    assert not torch.equal(generator(x, y), generator(x, 1 - y))  # the condition is not normalised away


def test_stargan_asks_for_rows_of_the_batch_and_comes_back(tmp_path: Path) -> None:
    """Losses of a round, written out: WGAN-GP's, the cross-entropy of each side, and the cycle."""
    options = ["model=stargan", "model.game.generator.width=4", "model.game.discriminator.width=4"]
    module, data, _ = build(composed(*FP32, *options, "data.batch_size=8", folder=tmp_path))
    data.prepare_data()
    data.setup()
    game = module.game
    batch = {name: rows[:8] for name, rows in data.batch(torch.arange(8)).items()}
    (round,) = game.build_rounds("generator", batch)
    target = round.fake_inputs["label"]
    assert sorted(target.tolist()) == sorted(batch["label"].tolist())
    y, back = (nn.functional.one_hot(rows, 10).float() for rows in (target, batch["label"]))
    torch.testing.assert_close(round.fake, game.generator(batch["image"], y))
    losses = game.compute_terms("generator", [round], ("domain", "cycle"))
    cycle = (game.generator(round.fake, back) - batch["image"]).abs().mean()
    torch.testing.assert_close(losses["cycle"], 10 * cycle)
    domain = nn.functional.cross_entropy(game.discriminator(round.fake).classes, target)
    torch.testing.assert_close(losses["domain"], domain)
    torch.testing.assert_close(losses["adversarial"], -game.discriminator(round.fake).score.mean())
    (other,) = game.build_rounds("discriminator", batch)
    found = game.compute_terms("discriminator", [other], ("domain",))["domain"]
    torch.testing.assert_close(
        found, nn.functional.cross_entropy(game.discriminator(batch["image"]).classes, batch["label"])
    )


@pytest.mark.slow
def test_samples_of_stargan_are_stored_pictures_in_each_class(fit: Fit, tmp_path: Path) -> None:
    options = ["model=stargan", "model.game.generator.width=4", "model.game.discriminator.width=4"]
    module, _ = fit(*options, "data.batch_size=8", "max_images=16", folder=tmp_path)
    assert module.game.pictures.float().std() > 0
    loaded = load(tmp_path)
    assert torch.equal(loaded.game.pictures, module.game.pictures)
    inputs = loaded.game.sample_inputs(12)
    assert inputs["input"].shape == (12, 1, 16, 16) and inputs["label"].tolist() == [*range(10), 0, 1]
    assert loaded.sample(inputs).shape == (12, 1, 16, 16)
