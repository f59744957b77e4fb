"""Images from pictures: pairs and none, what inputs are made of, the networks' geometry, and CycleGAN by hand."""

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import nn

from helpers.commands import Result, quick
from helpers.composing import FP32, ROOT, composed
from helpers.disk import full_disk
from helpers.training import Fit, built
from oakleaf.cli.translate import _write
from oakleaf.data import Images
from oakleaf.data.folder import Folder
from oakleaf.data.inputs import Edges, Grey, LowResolution, Masked
from oakleaf.data.pairs import SideBySide, TwoFolders
from oakleaf.data.sampling import EpochSampler
from oakleaf.data.transforms import BatchTransform
from oakleaf.data.utkface import UTKFace
from oakleaf.errors import UserError
from oakleaf.games.image_pool import ImagePool
from oakleaf.image_grid import from_bytes, interleave, to_bytes
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.reconstruction import ReconstructionError
from oakleaf.metrics.segmentation import Segmentation
from oakleaf.networks.context_encoder import Completion
from oakleaf.networks.patchgan import LAYERS, PatchGAN
from oakleaf.networks.resnet import Residual, ResNet
from oakleaf.networks.unet import UNet
from oakleaf.runtime.seeds import derive_seed
from oakleaf.sampling.translate import Translator

TINY = ["data.size=16", "data.batch_size=4"]
PIX = ["model=pix2pix", "model.game.generator.width=4", "model.game.discriminator.width=4"]
CYCLE = ["model=cyclegan", *(f"model.game.{player}.network.width=4" for player in ("generator", "discriminator"))]
CYCLE += ["model.game.discriminator.network.patch=16", "model.game.generator.network.blocks=1", "model.game.pool=6"]
SMALL = ["model.game.discriminator.patch=16"]
GENERATOR = torch.Generator().manual_seed(0)


def halves(root: Path, count: int = 8, side: int = 20, split: str = "") -> Path:
    """Pictures of two halves: left random, right its negative."""
    rng = np.random.default_rng(0)
    (root / split).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        left = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(np.concatenate([left, 255 - left], 1)).save(root / split / f"{i}.png")
    return root


def folders(root: Path, first: int = 8, second: int = 8, side: int = 16) -> Path:
    """Write grey pictures in trainA and coloured ones in trainB."""
    rng = np.random.default_rng(0)
    for name, count, shape in (("trainA", first, (side, side)), ("trainB", second, (side, side, 3))):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(root / name / f"{i}.png")
    return root


def test_cyclegan_equals_a_loop_by_hand_including_the_image_pool(tmp_path: Path) -> None:
    iterations, size = 5, 4
    root = halves(tmp_path / "data", 24)
    options = [*CYCLE, *TINY, "data=side_by_side", f"data.root={root}", "data.unpaired=true", "data.flip=false"]
    # without normalisations: a bias before one has no gradient but rounding, which Adam would make steps of
    options += [f"model.game.{player}.network.norm=none" for player in ("generator", "discriminator")]
    options += ["trainer=cpu", "trainer.precision=64-true", f"max_images={iterations * size}"]
    module, data, trainer, _ = built(*options, folder=tmp_path / "run")
    networks = [copy.deepcopy(pair).double() for pair in (module.game.generator, module.game.discriminator)]
    start = copy.deepcopy(networks)
    trainer.fit(module, datamodule=data)

    generators, critics = networks
    g, f, d_y, d_x = generators.to_image, generators.to_input, critics.of_images, critics.of_inputs
    for_g, for_d = (torch.optim.Adam(pair.parameters(), lr=2e-4, betas=(0.5, 0.999)) for pair in networks)
    image_batches, input_batches = (
        EpochSampler(24, size, seed=0).batches(0),
        EpochSampler(24, size, seed=derive_seed(0, "inputs")).batches(0),
    )
    past: dict[nn.Module, list[torch.Tensor]] = {d_y: [], d_x: []}

    def history(critic: nn.Module, fakes: torch.Tensor) -> torch.Tensor:
        exchanged, places, out = torch.rand(size, dtype=torch.double) < 0.5, torch.rand(size, dtype=torch.double), []
        for fake, exchange, place in zip(fakes.detach(), exchanged, places):
            if len(past[critic]) < 6:
                past[critic].append(fake)
            elif exchange:
                past[critic][int(place * 6)], fake = fake, past[critic][int(place * 6)]
            out.append(fake)
        return torch.stack(out)

    for iteration, (rows, _), (others, _) in zip(range(iterations), image_batches, input_batches):
        y, x = (data.rows[name][indices].double() / 127.5 - 1 for name, indices in (("image", rows), ("input", others)))
        torch.manual_seed(derive_seed(0, iteration, 0))
        fakes = {d_y: g(x), d_x: f(y)}
        old = {critic: history(critic, fake) for critic, fake in fakes.items()}
        of_d = sum(
            0.5 * (critic(real).score - 1).square().mean() + 0.5 * critic(old[critic]).score.square().mean()
            for critic, real in ((d_y, y), (d_x, x))
        )
        for_d.zero_grad()
        (of_d / 2).backward()
        for_d.step()
        fake_y, fake_x = g(x), f(y)
        adversarial = sum(0.5 * (c(fake).score - 1).square().mean() for c, fake in ((d_y, fake_y), (d_x, fake_x)))
        cycle = (f(fake_y) - x).abs().mean() + (g(fake_x) - y).abs().mean()
        identity = (g(y) - y).abs().mean() + (f(x) - x).abs().mean()
        for_g.zero_grad()
        ((adversarial + 5 * cycle + 2.5 * identity) / 2).backward()
        for_g.step()

    ours = [*module.game.generator.parameters(), *module.game.discriminator.parameters()]
    theirs = [w for network in networks for w in network.parameters()]
    assert max((a - b).abs().max().item() for a, b in zip(ours, theirs)) < 1e-6
    before = [w for network in start for w in network.parameters()]
    assert max((a - b).abs().max().item() for a, b in zip(ours, before)) > 1e-4


def test_the_image_pool_keeps_no_nan() -> None:
    pool = ImagePool(4, (1, 2, 2))
    fakes = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 1, 2, 2).clone()
    fakes[::2] = float("nan")
    assert torch.equal(pool(fakes).isnan(), fakes.isnan())
    assert pool.held == 4
    assert not any(pool(fakes)[1::2].isnan().any() for _ in range(20))
    assert pool.images.isfinite().all()


def test_the_image_pool_returns_half_new_fakes_and_each_old_one_at_most_once() -> None:
    torch.manual_seed(0)
    pool = ImagePool(50, (1, 1, 1))
    first = torch.arange(50.0).view(50, 1, 1, 1)
    assert torch.equal(pool(first), first)  # while it fills, all pass
    out = torch.cat([pool(torch.full((1, 1, 1, 1), float(i))) for i in range(50, 4050)]).flatten()
    passed = (out == torch.arange(50.0, 4050.0)).float().mean()
    assert 0.47 < passed < 0.53
    assert len(out.unique()) == len(out)
    ages = torch.arange(50.0, 4050.0) - out
    assert 90 < ages[ages > 0].mean() < 110  # of those exchanged: 50 places, each changed by half of the iterations
    assert torch.equal(ImagePool(0, (1, 1, 1))(first), first)


@pytest.mark.parametrize("patch", [1, 16, 34, 70, 142, 286])
def test_a_patchgan_score_depends_only_on_its_patch(patch) -> None:
    size = max(64, 1 << (patch - 1).bit_length() + 1)
    network = PatchGAN(1, size, patch=patch, width=2, norm="none").double()
    with torch.no_grad():
        for weight in network.parameters():
            weight.abs_()
    image = torch.ones(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    score = network(image).score
    middle = score.shape[2] // 2
    score[0, 0, middle, middle].backward()
    seen = image.grad[0, 0].nonzero()
    assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [patch, patch]
    assert network.receptive_field == patch


def test_patches_larger_than_the_image_allows_are_refused_with_one_that_fits() -> None:
    for size, largest in ((16, 34), (30, 70), (64, 142), (100, 286)):
        for patch in LAYERS:
            if patch > largest:
                with pytest.raises(
                    UserError, match=r"model\.game\.discriminator\.network\.patch="
                ) as error:  # cyclegan's
                    PatchGAN(3, size, patch=patch, width=2)
                assert str(error.value).endswith(f"={largest}")
                continue
            network = PatchGAN(3, size, patch=patch, width=2)
            assert network(torch.randn(2, 3, size, size)).score.isfinite().all()


@pytest.mark.parametrize("size", [16, 28, (32, 48), 256])
@pytest.mark.parametrize("skips", [True, False])
def test_a_u_net_keeps_the_size_and_uses_dropout_as_noise(size, skips: bool) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    network = UNet(2, 5, size, width=2, skips=skips).eval()
    y = torch.randn(1, 2, height, width)
    one, two = network(y), network(y)
    assert one.shape == (1, 5, height, width)
    assert not torch.equal(one, two)  # dropout stays
    assert (size != 256) or network.depth == 8


def test_skip_connections_carry_details_past_the_bottleneck() -> None:
    torch.manual_seed(0)
    fine = torch.zeros(1, 1, 32, 32)
    fine[0, 0, 5, 7] = 1
    for skips, reached in ((True, True), (False, False)):
        network = UNet(1, 1, 32, width=2, depth=5, dropout=0, skips=skips, norm="none")
        with torch.no_grad():
            network.down[-1][1].weight.zero_()  # nothing passes below
            changed = (network(fine) - network(torch.zeros_like(fine))).abs().max() > 0
        assert bool(changed) == reached


def test_cyclegans_network_keeps_any_size_that_four_divides() -> None:
    network = ResNet(3, 1, 64, width=2, blocks=2)
    assert network(torch.randn(2, 3, 20, 36)).shape == (2, 1, 20, 36)
    assert len([m for m in ResNet(1, 1, 256, width=1).modules() if type(m).__name__ == "Residual"]) == 9
    with pytest.raises(UserError, match="multiple of 4"):
        ResNet(3, 3, 30)


def test_a_residual_block_of_zero_weights_is_the_identity() -> None:
    block, x = Residual(3, "none"), torch.randn(2, 3, 8, 8)
    for weight in block.parameters():
        nn.init.zeros_(weight)
    assert torch.equal(block(x), x)


def test_a_flat_picture_stays_flat_up_to_its_borders() -> None:
    """Where the paper's letters reflect: c7s1 at both ends, and in the blocks."""
    layers = list(ResNet(3, 1, 16, width=2, blocks=1, norm="none").layers)
    (block,) = (layer for layer in layers if isinstance(layer, Residual))
    for part, channels in ((layers[:2], 3), ([block], 8), (layers[-3:], 2)):
        seen = nn.Sequential(*part)(torch.ones(1, channels, 16, 16))
        assert seen.abs().max() > 0
        torch.testing.assert_close(seen, seen[:, :, 8:9, 8:9].expand_as(seen))


ADAM = {f"optim.{player}.optimizer.betas": [0.5, 0.999] for player in ("generator", "discriminator")}
RATES = {f"optim.{player}.lr": 2e-4 for player in ("generator", "discriminator")}
CYCLES = {"model.game.terms.generator.cycle.weight": 5, "model.game.terms.generator.identity.weight": 2.5}


def falling(after: int) -> dict[str, float]:
    """The rates are kept for so many images and fall to zero in as many."""
    place = "optim.{}.schedules.lr.{}"
    steps = {"to": 0, "after": after, "over": after}
    return {place.format(player, key): n for player in ("generator", "discriminator") for key, n in steps.items()}


@pytest.mark.parametrize(
    ("experiment", "papers"),
    [
        ("pix2pix_facades", RATES | {"model.game.terms.generator.l1.weight": 100, "trainer.max_epochs": 200}),
        ("cyclegan_facades", RATES | CYCLES | falling(40_000) | {"model.game.pool": 50, "trainer.max_epochs": 200}),
        ("cyclegan_ages", RATES | CYCLES | falling(100_000) | {"model.game.pool": 50, "max_images": 200_000}),
        (
            "context_encoder_faces",
            RATES | {"optim.generator.lr": 2e-3, "model.game.terms.generator.l2.weight": 4000, "data.batch_size": 64},
        ),
    ],
)
def test_experiments_have_the_papers_weights_and_rates(experiment: str, papers: dict[str, float]) -> None:
    """The sections are named in the YAMLs; 400 facades are an epoch."""
    config = composed(f"experiment={experiment}", folder="x")
    assert {key: OmegaConf.select(config, key) for key in papers | ADAM} == papers | ADAM


def test_computed_inputs_are_those_of_their_definitions() -> None:
    image = torch.rand(3, 3, 24, 16) * 2 - 1
    grey = Grey()(image, GENERATOR)
    assert torch.allclose(grey[:, 0], 0.299 * image[:, 0] + 0.587 * image[:, 1] + 0.114 * image[:, 2])
    assert (Edges()(torch.ones(1, 3, 8, 8), GENERATOR) == 1).all()
    step = torch.cat([torch.full((1, 1, 8, 4), -1.0), torch.full((1, 1, 8, 4), 1.0)], 3)
    edges = Edges()(step, GENERATOR)[0, 0]
    assert torch.allclose(edges[:, 3:5], torch.tensor(-1.0))  # black where it jumps from -1 to 1
    assert (edges[:, :3] == 1).all()
    assert (edges[:, 5:] == 1).all()
    coarse = LowResolution(4)(image, GENERATOR)
    assert coarse.shape == image.shape
    flat = torch.full((1, 3, 16, 16), 0.3)
    assert torch.allclose(LowResolution(4)(flat, GENERATOR), flat, atol=1e-5)
    for made, channels in ((Grey(), 1), (Edges(), 1), (LowResolution(), 3), (Masked(), 4)):
        assert made.channels(3) == channels == made(image, GENERATOR).shape[1]


def test_a_mask_hides_its_region_and_is_a_channel_of_the_input(tmp_path: Path) -> None:
    image = torch.rand(64, 3, 16, 12) / 2 + 0.5
    share = {"centre": 0.25, "block": 0.25, "half": 0.5}
    for region, hidden in share.items():
        given = Masked(region)(image, GENERATOR)  # type: ignore[arg-type]
        missing = given[:, 3:] > 0
        assert missing.float().mean((1, 2, 3)).allclose(torch.tensor(hidden))
        assert torch.equal(given[:, :3], image * ~missing)
        assert (missing == missing[:1]).all() == (region != "block")
    Image.fromarray(np.pad(np.full((8, 6), 255, dtype=np.uint8), ((0, 8), (0, 6)))).save(tmp_path / "mask.png")
    missing = Masked(str(tmp_path / "mask.png"))(image, GENERATOR)[:, 3] > 0
    assert missing[:, :8, :6].all()
    assert missing.float().mean() == 0.25
    for region in ("center", str(tmp_path / "none.png")):
        with pytest.raises(UserError, match="white parts are missing"):
            Masked(region)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match=r"text\.png: can't be read as a picture"):
        Masked(str(tmp_path / "text.png"))
    for grey, words in ((0, "all of it would be left"), (255, "nothing of it would be left")):
        Image.new("L", (8, 8), grey).save(tmp_path / "flat.png")
        with pytest.raises(UserError, match=words):
            Masked(str(tmp_path / "flat.png"))


def test_a_mask_reaches_a_run_from_the_command_line(tmp_path: Path) -> None:
    Image.fromarray(np.pad(np.full((16, 32), 255, dtype=np.uint8), ((0, 16), (0, 0)))).save(tmp_path / "mask.png")
    options = ["data/input=masked", f"data.input.region={tmp_path}/mask.png", "data.size=32"]
    _, data, *_ = built("model=pix2pix", *options, folder=tmp_path)
    data.prepare_data()
    data.setup()
    missing = data.transform({"image": data.rows["image"][:4]}, torch.float32, 0)["input"][:, -1] > 0
    assert missing[:, :16].all()
    assert not missing[:, 16:].any()


def test_two_pictures_of_one_name_are_no_pair(tmp_path: Path) -> None:
    for folder in ("trainA", "trainB"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (32, 32)).save(tmp_path / folder / "1.png")
    Image.new("RGB", (32, 32)).save(tmp_path / "trainA" / "1.jpg")
    with pytest.raises(UserError, match=r"1\.\w+ and .*1\.\w+: two pictures of one name"):
        built("model=pix2pix", "data=paired", f"data.root={tmp_path}", "data.size=32", folder=tmp_path)


@pytest.mark.parametrize("split", ["train"])
def test_the_command_in_the_yaml_trains_the_other_direction(tmp_path: Path, split: str) -> None:
    text = (ROOT / "conf/data/paired.yaml").read_text()
    overrides = [word.strip("'.") for word in text.split() if word.startswith("'data.source")]
    assert len(overrides) == 2
    source = composed("data=paired", *overrides, folder=tmp_path).data.source
    assert (source.image, source.input) == ("{split}A", "{split}B")


def test_random_flips_and_crops_are_the_same_for_an_image_and_its_input_unless_unpaired() -> None:
    bytes_ = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    mirrored = torch.tensor([True, False] * 3)
    transform = BatchTransform(flip=True, jitter=5, input=None)
    pair = {"image": bytes_, "input": bytes_.clone(), "mirrored": mirrored}
    moved = transform(pair, torch.float32, 1)
    assert torch.equal(moved["image"], moved["input"])
    assert moved["image"].shape == bytes_.shape
    assert not torch.equal(moved["image"], transform(pair, torch.float32, 2)["image"])
    assert torch.equal(moved["image"], transform(pair, torch.float32, 1)["image"])
    unpaired = transform({**pair, "input_mirrored": ~mirrored}, torch.float32, 1)
    assert torch.equal(unpaired["image"], moved["image"])
    assert not torch.equal(unpaired["input"], moved["input"])
    fixed = BatchTransform(True, 5, Grey())(pair, torch.float32, 1, train=False)
    assert torch.equal(fixed["image"], bytes_ / 127.5 - 1)
    assert fixed["input"].shape == (6, 1, 16, 16)


def test_either_half_can_be_the_image(tmp_path: Path) -> None:
    for side in ("left", "right"):
        source = SideBySide(halves(tmp_path), image=side)  # type: ignore[arg-type]
        one, other = (np.asarray(part.read(3)).astype(int) for part in (source, source.inputs))
        assert (one + other == 255).all()
        pair = np.asarray(Image.open(source.files[3]))
        assert (one == (pair[:, :20] if side == "left" else pair[:, 20:])).all()


def test_pairs_are_rotated_upright_first(tmp_path: Path) -> None:
    upright, exif = Image.new("RGB", (40, 24), "red"), Image.Exif()
    upright.paste("blue", (20, 0, 40, 24))
    exif[0x0112] = 6  # to be turned by 90 degrees
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    for name in ("whole", "trainB", "trainA"):
        (tmp_path / name).mkdir()
    turned.save(tmp_path / "whole" / "a.png", exif=exif)
    halves = SideBySide(tmp_path / "whole")
    assert halves.read(0).getcolors() == [(20 * 24, (255, 0, 0))]
    assert halves.inputs.read(0).getcolors() == [(20 * 24, (0, 0, 255))]
    turned.save(tmp_path / "trainB" / "a.png", exif=exif)
    upright.save(tmp_path / "trainA" / "a.png")
    assert len(TwoFolders(tmp_path)) == 1  # of one size


def test_colours_that_are_classes_are_not_mixed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    palette = np.array([[0, 0, 170], [255, 0, 0], [0, 255, 255]], dtype=np.uint8)
    for i in range(4):
        both = np.concatenate([rng.integers(0, 256, (40, 40, 3)), palette[rng.integers(0, 3, (40, 40))]], 1)
        Image.fromarray(both.astype(np.uint8)).save(tmp_path / f"{i}.png")
    for classes, colours in (("right", 3), ("null", 100)):
        options = ["data=side_by_side", f"data.root={tmp_path}", *TINY, f"data.source.classes={classes}"]
        _, data, *_ = built(*options, *PIX, *SMALL, folder=tmp_path / "x")
        data.setup()
        seen = data.rows["input"].permute(0, 2, 3, 1).reshape(-1, 3).unique(dim=0)
        assert len(seen) == 3 if colours == 3 else len(seen) > colours
        moved = BatchTransform(False, 4, None, data.transform.class_maps)(dict(data.rows), torch.float32, seed=0)[
            "input"
        ]
        moved = moved.permute(0, 2, 3, 1).reshape(-1, 3).unique(dim=0)
        assert len(moved) == 3 if colours == 3 else len(moved) > colours


def test_pictures_without_a_partner_or_of_other_sizes_are_named(tmp_path: Path) -> None:
    root = folders(tmp_path / "a")
    (root / "trainA" / "3.png").rename(root / "trainA" / "odd.png")
    with pytest.raises(UserError, match=r"trainB/3: no picture of that name .*\(2 such\)"):
        TwoFolders(root)
    root = folders(tmp_path / "b")
    Image.new("L", (16, 17)).save(root / "trainA" / "5.png")
    with pytest.raises(UserError, match=r"5.png has 16 x 16 pixels, .*5.png 16 x 17"):
        TwoFolders(root)
    root = folders(tmp_path / "c", second=0)
    with pytest.raises(UserError, match="trainB holds no pictures"):
        TwoFolders(root)
    Image.new("L", (21, 8)).save(halves(tmp_path / "d") / "9.png")
    with pytest.raises(UserError, match=r"9.png: can't be read \(21 pixels wide"):
        built("data=side_by_side", f"data.root={tmp_path / 'd'}", *TINY, *PIX, *SMALL, folder=tmp_path / "x")[1].setup()


def test_a_computed_input_belongs_to_its_image(tmp_path: Path) -> None:
    """Even if the source has unpaired inputs."""
    options = ["data=unpaired", f"data.root={folders(tmp_path / 'data')}", *TINY, *PIX, *SMALL]
    assert not built(*options, folder=tmp_path)[1].pairs
    assert built(*options, "data/input=grey", folder=tmp_path)[1].pairs


def test_an_unreadable_half_of_a_pair_takes_the_other_with_it(tmp_path: Path) -> None:
    root = folders(tmp_path / "a")
    (root / "trainA" / "2.png").write_bytes(b"no picture")
    options = ["data=paired", f"data.root={root}", *TINY, *PIX, *SMALL, "data.on_corrupt=skip"]
    _, data, *_ = built(*options, folder=tmp_path / "x")
    data.setup()
    assert data.rows["image"].shape == (7, 3, 16, 16)
    assert data.rows["input"].shape == (7, 1, 16, 16)
    third = np.asarray(Image.open(root / "trainB" / "3.png")).transpose(2, 0, 1)
    assert (data.rows["image"][2].numpy() == third).all()


@pytest.mark.parametrize("keep", ["device", pytest.param("workers", marks=pytest.mark.long)])
@pytest.mark.slow
def test_unpaired_inputs_are_shuffled_independently_and_continue_over_epochs(
    fit: Fit, tmp_path: Path, keep: str
) -> None:
    root = folders(tmp_path / "data", first=9, second=16)
    options = [*CYCLE, *TINY, "~model.game.terms.generator.identity", "data=unpaired", f"data.root={root}"]
    options += [f"data.keep={keep}", "trainer.max_epochs=3", "callbacks.checkpoint.keep_every=4"]
    module, trainer = fit(*options, folder=tmp_path / "a")
    assert module.iteration == 12
    sampler, expected = EpochSampler(9, 4, derive_seed(0, "inputs")), []
    for start in range(0, 12, 2):
        expected += [rows.sort().values.tolist() for rows, _ in sampler.batches(start)]
    loader = trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
    inputs = trainer.datamodule.rows["input"]  # type: ignore[attr-defined]
    module.iteration, found = 0, []
    for batch in loader:
        found.append([int((inputs == one).flatten(1).all(1).nonzero()) for one in batch["input"]])
    trainer.datamodule.teardown("fit")  # type: ignore[attr-defined]
    assert [sorted(rows) for rows in found] == expected[:4]
    for cut in (1, 5, 8):
        checkpoint = tmp_path / "a" / "checkpoints" / f"{cut * 4:012d}.ckpt"
        resumed, _ = fit(*options, checkpoint=checkpoint, folder=tmp_path / f"b{cut}")
        assert all(torch.equal(a, b) for a, b in zip(resumed.state_dict().values(), _final_weights(tmp_path).values()))


@pytest.mark.slow
def test_faces_are_selected_by_the_age_in_their_names(fit: Fit, tmp_path: Path) -> None:
    for i, age in enumerate([*range(18, 31), *range(50, 70), 116]):
        face = np.full((16, 16, 3), age, dtype=np.uint8)  # so that the pixels show the age
        Image.fromarray(face).save(tmp_path / f"{age}_{i % 2}_0_2017.png")
    old = UTKFace(tmp_path, (55, 116), (18, 30), "train")
    kept = [int(Path(old.name(i)).name.split("_")[0]) for i in range(len(old))]
    assert kept == [*range(55, 64), *range(65, 70)]  # in the order of the names: 116 is the first, 64 the eleventh
    assert old.inputs and len(old.inputs) == 11  # 13 less every tenth
    options = [*CYCLE, *TINY, "experiment=cyclegan_ages", f"data.root={tmp_path}", "max_images=8"]
    _, trainer = fit(*options, folder=tmp_path / ".run")
    rows = trainer.datamodule.rows  # type: ignore[attr-defined]
    assert rows["image"].min() >= 55 and rows["input"].max() <= 30
    with pytest.raises(UserError, match="no file name begins with an age from 80 to 90 years"):
        UTKFace(tmp_path, (80, 90))
    Image.fromarray(face).save(tmp_path / "someone.png")
    with pytest.raises(UserError, match=r"someone\.png: the name should begin with an age"):
        UTKFace(tmp_path, (18, 30))


def _final_weights(tmp_path: Path) -> dict[str, torch.Tensor]:
    content = torch.load(tmp_path / "a/checkpoints/last.ckpt", weights_only=True)
    return content["state_dict"]


@pytest.mark.slow
def test_a_translator_stores_pictures_of_the_data_and_shows_them_next_to_its_images(fit: Fit, tmp_path: Path) -> None:
    options = ["data/input=edges", *TINY, *PIX, *SMALL, "max_images=8", "callbacks.samples.every=8"]
    module, trainer = fit(*options)
    inputs = module.game.sample_inputs(70)["input"]
    of_data = trainer.datamodule.batch(torch.arange(1797))["input"]  # type: ignore[attr-defined]
    for picture in inputs[:5]:
        assert ((of_data - picture).abs().flatten(1).amax(1) < 1 / 127).any()
    assert torch.equal(inputs[0], inputs[64])
    first = np.asarray(Image.open(tmp_path / "samples" / f"{0:012d}.png"))
    assert first.std() > 10
    assert torch.equal(module.game.condition.from_index(3, 2)[1], inputs[3])


@pytest.mark.slow
def test_data_without_an_input_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="data=paired, data=facades, or data/input=grey"):
        built("model=pix2pix", folder=tmp_path)
    with pytest.raises(UserError, match="images and inputs with the same channels"):
        module, data, trainer, _ = built(*FP32, *CYCLE, *TINY, "data/input=masked", folder=tmp_path)
        trainer.fit(module, datamodule=data)
    with pytest.raises(UserError, match="needs a game with two generators"):
        options = [*PIX, *SMALL, *TINY, "data/input=edges"]
        options += ["+model.game.terms.generator.cycle={_target_: oakleaf.losses.translation.Cycle}"]
        module, data, trainer, _ = built(*FP32, *options, folder=tmp_path)
        trainer.fit(module, datamodule=data)


@pytest.mark.slow
def test_l1_moves_a_translator_towards_the_target(fit: Fit) -> None:
    options = [*PIX, *SMALL, *TINY, "data/input=grey", "model.game.generator.dropout=0", "optim.generator.lr=2e-3"]
    options += ["data.batch_size=16", "optim.ema=null"]

    def miss(images: int) -> float:
        module, trainer = fit(*options, f"max_images={images}")
        batch = trainer.datamodule.batch(torch.arange(64))  # type: ignore[attr-defined]
        return float((module.sample({"input": batch["input"]}) - batch["image"]).abs().mean())

    assert miss(1600) < 0.25 * miss(16)  # grey of grey is the image itself


def test_a_tenth_of_a_folder_is_the_test_split(tmp_path: Path) -> None:
    root = halves(tmp_path, 25)
    parts = {split: {str(f) for f in Folder(root, split=split).files} for split in ("all", "train", "test")}
    assert len(parts["test"]) == 3
    assert parts["train"] | parts["test"] == parts["all"]
    assert not parts["train"] & parts["test"]


def test_a_completion_changes_the_missing_part_alone() -> None:
    image = torch.rand(5, 3, 16, 16) * 2 - 1
    masked = Masked("block")(image, torch.Generator().manual_seed(0))
    completed = Completion(UNet(4, 3, 16, width=2, norm="none"))(masked)
    missing = (masked[:, 3:] > 0).expand_as(image)
    assert torch.equal(completed[~missing], image[~missing])
    assert (completed[missing] != image[missing]).all()


def test_a_completion_of_other_pictures_is_refused(tmp_path: Path) -> None:
    for folder in ("trainA", "trainB"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (32, 32), "red").save(tmp_path / folder / "a.png")
    options = ["model=context_encoder", "data=paired", f"data.root={tmp_path}", "data.size=32", "logger=csv"]
    refused = quick("train", *options, folder=tmp_path)
    assert refused.returncode == 1
    assert "which data/input=masked makes" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_sample_grid_shows_grey_inputs_without_their_mask() -> None:
    image = torch.rand(2, 1, 4, 4)
    sides = interleave(torch.cat([image, torch.ones(2, 1, 4, 4)], 1), image.expand(-1, 3, -1, -1), image)
    assert torch.allclose(sides[:3], image[:1].expand(3, -1, -1, -1))
    colour = torch.rand(2, 3, 4, 4)
    assert torch.equal(interleave(torch.cat([colour, image], 1), image, colour)[0], colour[0])
    assert torch.equal(interleave(image, colour)[0], image[0].expand(3, -1, -1))


def call(*arguments: str) -> Result:
    return quick(*arguments, folder=ROOT)


@pytest.fixture
def run(fit: Fit, tmp_path: Path) -> Path:
    """A translator of halves, 16 x 16 in colour."""
    options = ["data=side_by_side", f"data.root={halves(tmp_path / 'data')}", *TINY, *PIX, *SMALL]
    fit(*options, "max_images=8", folder=tmp_path / "run")
    return tmp_path / "run"


def pictures(root: Path) -> Path:
    """Pictures of many kinds, one of them none."""
    (root / "inner").mkdir(parents=True)
    Image.effect_noise((33, 21), 50).save(root / "grey.png")
    Image.effect_noise((8, 90), 50).convert("RGB").save(root / "inner" / "tall.jpg")
    Image.effect_noise((40, 40), 50).convert("RGBA").save(root / "inner" / "clear.png")
    (root / "broken.png").write_bytes(b"no picture")
    return root


@pytest.mark.parametrize("size", ["trained", "own"])
@pytest.mark.slow
def test_a_folder_is_translated_with_the_same_names_and_a_broken_file_is_named(run: Path, tmp_path: Path, size) -> None:
    out = tmp_path / "out"
    result = call("translate", f"checkpoint={run}", f"input={pictures(tmp_path / 'in')}", f"out={out}", f"size={size}")
    assert result.returncode == 1
    assert "3 of 4 pictures translated" in result.stdout
    assert "broken.png: can't be read" in result.stdout + result.stderr
    written = {str(file.relative_to(out)): Image.open(file).size for file in out.rglob("*.*")}
    own = {"grey.png": (33, 21), "inner/tall.jpg": (8, 90), "inner/clear.png": (40, 40)}
    assert written == (own if size == "own" else dict.fromkeys(own, (16, 16)))
    refused = call("translate", f"checkpoint={run}", f"input={tmp_path / 'in'}", f"out={out}", "on_corrupt=error")
    assert refused.returncode == 1
    assert "broken.png: can't be read" in refused.stderr
    unmade = call(
        "translate", f"checkpoint={run}", f"input={tmp_path / 'in'}", f"out={tmp_path / 'no'}", "inverse=true"
    )
    assert unmade.returncode == 1 and not (tmp_path / "no").exists()
    nowhere = call("translate", f"checkpoint={run}", f"input={tmp_path / 'nowhere'}", f"out={out}")
    assert "nowhere does not exist; a folder of pictures" in nowhere.stderr and "input=FOLDER" in nowhere.stderr
    assert "would be written over" in call("translate", f"checkpoint={run}", f"input={out}", f"out={out}").stderr
    for _ in range(2):  # what lies in `out` is no input, though it lies in `input` too
        again = call("translate", f"checkpoint={run}", f"input={tmp_path / 'in'}", f"out={tmp_path / 'in' / 'made'}")
        assert "3 of 4 pictures translated" in again.stdout


@pytest.mark.slow
def test_a_full_disk_is_reported_with_the_file_it_refuses(run: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.effect_noise((40, 40), 50).save(tmp_path / "in" / "a.png")
    options = [f"checkpoint={run}", f"out={tmp_path / 'out'}"]
    for command in (["translate", f"input={tmp_path / 'in'}"], ["sample", "mode=translate"]):
        with full_disk(300):
            result = call(*command, *options)
        assert result.returncode == 1
        assert re.search(r"out/(a\.png|samples\.npy) could not be written \(.+\): make room there", result.stderr)
        assert "Traceback" not in result.stderr and not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_translations_keep_format_and_opacity_and_other_files_are_listed(run: Path, tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    root.mkdir()
    noise = Image.effect_noise((40, 32), 50).convert("RGB")
    opacity = Image.new("L", (40, 32), 255)
    opacity.paste(0, (0, 0, 20, 32))
    for name in ("a.png", "b.webp", "c.tif"):
        clear = noise.copy()
        clear.putalpha(opacity)
        clear.save(root / name, **({"lossless": True} if name == "b.webp" else {}))
    for name in ("d.jpg", "e.bmp", "f.ppm"):
        noise.save(root / name)
    noise.convert("P").save(root / "g.gif", transparency=0)
    for name in ("notes.txt", "thumbs.db"):
        (root / name).touch()
    for size in ("own", "trained"):
        result = call("translate", f"checkpoint={run}", f"input={root}", f"out={out}", f"size={size}")
        assert result.returncode == 0, result.stderr
        assert "7 of 7 pictures translated" in result.stdout
        assert "notes.txt" in result.stdout and "thumbs.db" in result.stdout
        for file in root.iterdir():
            if file.suffix not in (".txt", ".db"):
                made = Image.open(min(out.glob(f"{file.name}*")))
                assert made.format == ("PNG" if (file.suffix, size) == (".gif", "own") else Image.open(file).format)
                assert made.size == ((40, 32) if size == "own" else (16, 16))
        for name in ("a.png", "b.webp", "c.tif"):
            alpha = np.asarray(Image.open(out / name).getchannel("A"))
            assert (alpha[:, :2] == 0).all()
            assert (alpha[:, -2:] == 255).all()


@pytest.mark.parametrize(
    ("name", "mode", "written"),
    [
        ("a.pgm", "L", "a.pgm"), ("a.pgm", "RGB", "a.pgm.png"), ("a.pbm", "L", "a.pbm.png"), ("a.ppm", "RGB", "a.ppm"),
        ("a.gif", "L", "a.gif"), ("a.gif", "RGB", "a.gif.png"), ("a.ico", "RGB", "a.ico.png"), ("a.PNG", "L", "a.PNG"),
    ],
)  # fmt: skip
def test_a_format_that_cannot_hold_an_image_is_replaced_by_png(
    name: str, mode: str, written: str, tmp_path: Path
) -> None:
    from oakleaf.cli.translate import _write

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 20, 3), dtype=np.uint8)).convert(mode)
    _write(image, tmp_path / name)
    (file,) = tmp_path.iterdir()
    assert file.name == written
    with Image.open(file) as stored:
        assert np.array_equal(np.asarray(stored.convert(mode)), np.asarray(image))


@pytest.mark.slow
def test_pairs_side_by_side_are_announced_and_one_half_can_be_translated(run: Path, tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    left, right = (Image.effect_noise((32, 32), 50).convert("RGB") for _ in range(2))
    pair = Image.new("RGB", (64, 32))
    pair.paste(left, (0, 0))
    pair.paste(right, (32, 0))
    pair.save(root / "pair.png")
    left.save(root / "left.png")
    right.save(root / "right.png")
    result = call("translate", f"checkpoint={run}", f"input={root}", f"out={tmp_path}/whole")
    assert "1 pictures are as wide as an input and its target side by side" in result.stdout + result.stderr
    assert "pair.png" in result.stdout + result.stderr
    for side in ("left", "right"):
        half, whole = Translator(str(run), half=side), Translator(str(run))  # type: ignore[arg-type]
        assert np.array_equal(half(root / "pair.png"), whole(root / f"{side}.png"))
        assert not half.looks_like_pair(root / "pair.png")


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_pictures_are_written_atomically(tmp_path: Path, name: str) -> None:
    noise = Image.effect_noise((90, 90), 50)
    _write(noise, tmp_path / name)
    size = (tmp_path / name).stat().st_size
    (tmp_path / name).unlink()
    for old in ([], [b"of an earlier command"]):
        for content in old:
            (tmp_path / name).write_bytes(content)
        with full_disk(size - 10), pytest.raises(OSError, match=rf"File too large: '.*{name}'"):
            _write(noise, tmp_path / name)
        assert [file.read_bytes() for file in tmp_path.iterdir()] == old


@pytest.mark.slow
def test_a_translation_equals_that_of_the_game_and_depends_on_the_seed(run: Path, tmp_path: Path) -> None:
    file = pictures(tmp_path / "in") / "inner" / "clear.png"
    translator = Translator(str(run), "own")
    one, again, other = (np.asarray(translator(file, seed)) for seed in (1, 1, 2))
    assert (one == again).all()
    assert (one != other).any()  # dropout
    image = from_bytes(torch.from_numpy(np.array(Image.open(file).convert("RGB")))).permute(2, 0, 1)[None]
    torch.manual_seed(derive_seed(1, "translate"))
    padded = torch.nn.functional.pad(image, (0, 8, 0, 8), "reflect")
    drawn = to_bytes(translator.module.sample({"input": padded}))[0, :, :40, :40]
    assert np.array_equal(drawn.permute(1, 2, 0).numpy(), one)  # without opacity, as nothing is transparent


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.slow
def test_classes_are_not_mixed_in_translation_either(fit: Fit, tmp_path: Path, side: str) -> None:
    pair = Image.new("RGB", (64, 32), "red")
    pair.paste("blue", (40, 0, 64, 32))
    (tmp_path / "pairs").mkdir()
    pair.save(tmp_path / "pairs" / "a.png")
    halves = ["data=side_by_side", f"data.root={tmp_path}/pairs", f"data.source.classes={side}", "data.size=16"]
    small = ["model.game.generator.width=2", "model.game.discriminator.width=2", "model.game.discriminator.patch=1"]
    fit("model=pix2pix", *halves, *small, "max_images=1")
    assert Translator(str(tmp_path)).fit.resample == ("nearest" if side == "right" else "bilinear")


@pytest.mark.slow
def test_a_picture_too_small_for_a_network_is_padded(fit: Fit, tmp_path: Path) -> None:
    small = [f"model.game.{player}.network.width=2" for player in ("generator", "discriminator")]
    digits = ["data/input=low_resolution", "model.game.discriminator.network.patch=1"]
    fit("model=cyclegan", *small, "model.game.generator.network.blocks=1", *digits, "max_images=64")
    Image.new("L", (40, 1), 9).save(tmp_path / "flat.png")
    assert Translator(str(tmp_path), size="own")(tmp_path / "flat.png").size == (40, 1)


@pytest.mark.slow
def test_translation_makes_inputs_on_request_and_knows_both_directions(fit: Fit, tmp_path: Path) -> None:
    file = pictures(tmp_path / "in") / "inner" / "clear.png"
    model = ["model=context_encoder", "model.game.generator.network.width=4", "model.game.discriminator.width=4"]
    options = [*model, "model.game.generator.network.bottleneck=4", "data/input=masked", *TINY, "max_images=8"]
    fit(*options, folder=tmp_path / "a")
    with pytest.raises(UserError, match="make_input=true"):
        Translator(str(tmp_path / "a"))
    completed = np.asarray(Translator(str(tmp_path / "a"), make_input=True)(file)).astype(int)
    cut = np.asarray(Image.open(file).convert("L").resize((16, 16), Image.Resampling.BILINEAR)).astype(int)
    known = np.pad(np.zeros((8, 8), bool), 4, constant_values=True)
    assert np.abs(completed - cut)[known].max() <= 1
    half = np.asarray(Translator(str(tmp_path / "a"), make_input=True, region="half")(file)).astype(int)
    assert np.abs(half - cut)[:, :8].max() <= 1 < np.abs(half - cut)[:, 8:].max()
    for made, way in ((False, "half"), (True, "nowhere.png")):
        with pytest.raises(UserError, match=r"no part is missing here|nowhere\.png"):
            Translator(str(tmp_path / "a"), make_input=made, region=way)
    with pytest.raises(UserError, match="one direction only"):
        Translator(str(tmp_path / "a"), inverse=True)
    fit(*CYCLE, *TINY, "data/input=edges", "max_images=8", folder=tmp_path / "b")
    with pytest.raises(UserError, match="no part is missing"):
        Translator(str(tmp_path / "b"), make_input=True, region="half")
    forward, backward = (Translator(str(tmp_path / "b"), inverse=way)(file) for way in (False, True))
    assert np.asarray(forward).shape == np.asarray(backward).shape == (16, 16)
    assert (np.asarray(forward) != np.asarray(backward)).any()
    fit(
        *TINY, "max_images=8", "model.game.generator.width=4", "model.game.discriminator.width=4", folder=tmp_path / "c"
    )
    with pytest.raises(UserError, match="given no pictures"):
        Translator(str(tmp_path / "c"))


PALETTE = [[0, 0, 200], [200, 0, 0], [0, 200, 0]]


def towns(root: Path) -> Path:
    """Pairs: on the left a picture whose brightness encodes the class, on the right the classes as colours."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 8)):
        (root / split).mkdir(parents=True)
        for i in range(count):
            label = np.kron(rng.integers(0, 3, (4, 4)), np.ones((8, 8), dtype=int))
            photograph = (label * 80 + rng.integers(0, 40, label.shape))[:, :, None].repeat(3, 2)
            both = np.concatenate([photograph, np.array(PALETTE)[label]], 1)
            Image.fromarray(both.astype(np.uint8)).save(root / split / f"{i}.png")
    return root


@pytest.mark.parametrize("image", ["left", "right"])
@pytest.mark.slow
def test_a_perfect_translator_has_full_segmentation_scores_and_a_blind_one_has_not(
    fit: Fit, tmp_path: Path, image
) -> None:
    options = [f"data.root={towns(tmp_path / 'data')}", "data.size=32", "data=facades", f"data.source.image={image}"]
    options += ["data.batch_size=8", *PIX, *SMALL, "max_images=8"]
    module, trainer = fit(*options)
    data: Images = trainer.datamodule  # type: ignore[attr-defined, assignment]
    test = copy.copy(data)
    test.source = SideBySide(tmp_path / "data", image=image, classes="right", split="test")
    test.decoded_images, test.input_images = copy.copy(data.decoded_images), copy.copy(data.input_images)
    test.decoded_images.source, test.input_images.source = test.source, test.source.inputs  # type: ignore[union-attr]
    test.setup()
    answers = {bytes(a.numpy()): b for a, b in zip(test.rows["input"], test.rows["image"])}

    class Perfect:
        game, device, ema = module.game, module.device, module.ema

        def sample(self, batch, ema=True):
            return torch.stack([from_bytes(answers[bytes(one.numpy())]) for one in to_bytes(batch["input"])])

    class Blind(Perfect):
        def sample(self, batch, ema=True):
            return super().sample(batch).roll(1, 0)

    scores = []
    for one in (Perfect(), Blind()):
        evaluation = EvaluationData(one, data, extractor=None, fake=8, real=8, test=lambda: test)  # type: ignore[arg-type]
        measure = Segmentation(PALETTE, width=8, images=4000)
        measure.prepare(evaluation)
        scores.append((measure(None, None), measure.baseline(evaluation)))  # type: ignore[arg-type]
    (perfect, line), (blind, _) = scores
    assert line["pixel_accuracy"] > 0.9  # the segmenter has learned
    assert perfect["pixel_accuracy"] == (1.0 if image == "right" else line["pixel_accuracy"])
    assert perfect["class_iou"] <= perfect["class_accuracy"]
    assert blind["pixel_accuracy"] < 0.5


@pytest.mark.slow
def test_reconstruction_error_equals_its_formula_on_the_missing_part(fit: Fit, tmp_path: Path) -> None:
    options = [
        "data=folder",
        f"data.root={halves(tmp_path / 'data', 40)}",
        "data.source.split=train",
        "data.crop=stretch",
    ]
    options += [*PIX, *SMALL, *TINY, "data/input=masked", "max_images=8"]
    module, trainer = fit(*options)
    data: Images = trainer.datamodule  # type: ignore[attr-defined, assignment]
    evaluation = EvaluationData(module, data, extractor=None, fake=8, real=8, test=lambda: data)  # type: ignore[arg-type]
    measure = ReconstructionError()
    measure.prepare(evaluation)
    numbers, line = measure(None, None), measure.baseline(evaluation)  # type: ignore[arg-type]
    image = data.rows["image"].double() / 127.5 - 1
    hole = torch.zeros(16, 16, dtype=torch.bool)
    hole[4:12, 4:12] = True
    mean = image[:, :, ~hole].mean(2)
    wrong = image[:, :, hole] - mean[:, :, None]
    assert line["psnr"] == pytest.approx((10 * torch.log10(4 / wrong.square().mean((1, 2)))).mean().item(), rel=1e-5)
    assert line["l1_percent"] == pytest.approx(50 * wrong.abs().mean().item(), rel=1e-5)
    assert numbers["psnr"] != line["psnr"]
    data.pairs = False
    with pytest.raises(UserError, match="needs pairs"):
        ReconstructionError().prepare(evaluation)
    lacking = EvaluationData(module, data, extractor=None, fake=8, real=8)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"data.source.split=train"):
        ReconstructionError().prepare(lacking)


@pytest.mark.slow
def test_translations_are_shown_between_their_inputs_and_the_images(run: Path, tmp_path: Path) -> None:
    result = call("sample", f"checkpoint={run}", "mode=translate", "count=5", f"out={tmp_path / 'out'}")
    assert result.returncode == 0, result.stderr
    shown = np.load(tmp_path / "out" / "samples.npy").astype(int)
    assert shown.shape == (15, 16, 16, 3)
    given, made, image = shown[0::3], shown[1::3], shown[2::3]
    assert np.abs(given + image - 255).max() <= 2  # the right halves are the negatives of the left ones
    assert (made != image).any()
    assert "given no pictures" in call("sample", f"checkpoint={plain_run(tmp_path)}", "mode=translate").stderr


def plain_run(tmp_path: Path) -> Path:
    module, data, trainer, _ = built(*FP32, *TINY, *PIX[1:], "max_images=4", folder=tmp_path / "plain")
    trainer.fit(module, datamodule=data)
    return tmp_path / "plain"
