"""Text to image: captions, mismatches, texts between texts, stages, retrieval."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image
from torch import Tensor, nn
from torch.distributions import Normal as Gaussian
from torch.distributions import kl_divergence
from torch.nn.functional import softplus

from helpers.composing import composed
from helpers.data import condition_options, first_stage
from helpers.training import Fit
from oakleaf.builder.build import build
from oakleaf.builder.instantiate import instantiate_allowed
from oakleaf.builder.load import check_classes, load
from oakleaf.cli.real_data import real_data
from oakleaf.conditioning.caption import Caption
from oakleaf.conditioning.priors import Normal
from oakleaf.data.captions import CaptionTokens, CaptionWords
from oakleaf.data.celeba_captions import REQUIRED_ATTRIBUTES, VOCABULARY, describe
from oakleaf.data.vocabulary import tokenize, word_indices
from oakleaf.errors import UserError
from oakleaf.frozen.classifier import Training
from oakleaf.games import Matching
from oakleaf.image_grid import from_bytes
from oakleaf.losses.loss import Loss
from oakleaf.losses.objectives import NonSaturating
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.retrieval import Retrieval, retrieval_accuracy
from oakleaf.networks import text
from oakleaf.networks.layers import Bottleneck
from oakleaf.networks.stackgan import ConditioningAugmentation, StageTwoGenerator
from oakleaf.round import CriticOutput, MismatchedRound
from oakleaf.runtime.checkpoint_io import read_checkpoint

SMALL = ["model.game.generator.width=8", "model.game.discriminator.width=8", "data.batch_size=8", "max_images=16"]


class Linear(nn.Module):
    """D(x, y) = x^T W y."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 5))

    def forward(self, x: Tensor, y: Tensor) -> CriticOutput:
        return CriticOutput(((x.flatten(1) @ self.weight) * y).sum(1))


class Generator(nn.Module):
    """G(z, y) that records each y."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 4))
        self.conditions: list[Tensor] = []

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        self.conditions.append(y)
        return (y @ self.weight + z).tanh().unflatten(1, (1, 2, 2))


def matching(**options: bool) -> Matching:
    torch.manual_seed(0)
    loss = Loss("non_saturating", NonSaturating())
    return Matching(Generator(), Linear(), Normal(4), Caption(5), loss, **options)


def batch(count: int = 6) -> dict[str, Tensor]:
    return {"image": torch.randn(count, 1, 2, 2), "caption": torch.randint(0, 6, (count, 3))}


def test_the_matching_aware_loss_is_the_papers() -> None:
    """Reed 2016, Algorithm 1: log s_r + (log(1 - s_w) + log(1 - s_f)) / 2, s_w: real images with others' texts."""
    game, rows = matching(), batch()
    torch.manual_seed(1)
    losses, _ = game.player_losses("discriminator", rows, 1)
    torch.manual_seed(1)
    x, y = rows["image"], game.condition(rows)  # type: ignore[misc]
    fake = game.generator(torch.randn(6, 4), y)
    s_r, s_f = game.discriminator(x, y).score.sigmoid(), game.discriminator(fake, y).score.sigmoid()
    s_w = game.discriminator(x, y.roll(-1, 0)).score.sigmoid()  # the same pairs as images rolled the other way
    by_hand = -(s_r.log().mean() + ((1 - s_w).log().mean() + (1 - s_f).log().mean()) / 2)
    torch.testing.assert_close(losses["adversarial"], by_hand)


def test_without_mismatches_it_is_a_conditional_gan() -> None:
    game, rows = matching(mismatched=False, interpolated=False), batch()
    losses, _ = game.player_losses("discriminator", rows, 1)
    round = game.play(rows)[0]
    assert len(game.rounds_for("discriminator", [round])) == len(game.rounds_for("generator", [round])) == 1
    assert losses.keys() == {"adversarial"}


def test_a_mismatch_scores_each_real_image_once() -> None:
    game, scored = matching(), []
    round = game.play(batch())[0]
    critic = round.critic
    round.critic = lambda x: (scored.append(x), critic(x))[1]  # type: ignore[func-returns-value]
    mismatch = MismatchedRound(round)
    assert mismatch.on_real is round.on_real and len(scored) == 1
    assert torch.equal(mismatch.on_fake.score, critic(round.real.roll(1, 0)).score)


def test_the_generator_is_trained_on_texts_between_texts() -> None:
    """Reed 2016, eq. (5), beta = 1/2, for half as many images."""
    game, rows = matching(), batch()
    y = game.condition(rows)  # type: ignore[misc]
    torch.manual_seed(1)
    losses, _ = game.player_losses("generator", rows, 1)
    conditions = game.generator.conditions  # type: ignore[union-attr]
    torch.testing.assert_close(conditions[1], (y[:3] + y[3:]) / 2)
    torch.manual_seed(1)
    terms = []
    for condition in (y, (y[:3] + y[3:]) / 2):
        fake = game.generator(torch.randn(len(condition), 4), condition)
        terms.append(softplus(-game.discriminator(fake, condition).score).mean())
    torch.testing.assert_close(losses["adversarial"], sum(terms) / 2)
    conditions.clear()
    game.player_losses("discriminator", rows, 1)
    assert len(conditions) == 1


def test_a_word_is_the_same_however_its_accents_were_typed() -> None:
    assert tokenize("Caf\u00e9, cafe\u0301!") == ["caf\u00e9"] * 2
    assert tokenize("\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902") == [
        "\u0939\u093f\u0928\u094d\u0926\u0940",
        "\u092e\u0947\u0902",
    ]
    assert tokenize("I \u2764\ufe0f caf\u00e9") == ["i", "caf\u00e9"]
    assert tokenize("a light-skinned man's_hat 2") == ["a", "light-skinned", "man's_hat", "2"]


def test_a_caption_is_the_mean_of_its_words() -> None:
    """A linear map of y is the mean of the words' embeddings, and unknown words are left out."""
    condition, embed = Caption(3), nn.Linear(3, 7, bias=False)
    rows = word_indices([["red", "heart"], ["red", "red", "nobody"], []], ["red", "heart", "blue"])
    assert rows.tolist() == [[1, 2, 0], [1, 1, -1], [0, 0, 0]]
    found = embed(condition({"caption": torch.from_numpy(rows)}))
    red, heart = embed.weight.T[:2]
    torch.testing.assert_close(found, torch.stack([(red + heart) / 2, red, 0 * red]))


def test_a_checkpoint_can_be_sampled_by_text(fit: Fit, captions: Path, tmp_path: Path) -> None:
    fit("model=gan_cls", "data=emoji_captions", f"data.root={captions}", "data.size=16", *SMALL)
    module = load(tmp_path)
    condition: Any = module.game.condition
    assert "square" in condition.words
    rows = condition.from_text("Red square", 4)
    assert condition.texts(rows) == ["red square"] * 4
    inputs = {**module.game.sample_inputs(4), "caption": rows}
    assert module.sample(inputs).shape == (4, 3, 16, 16)
    assert torch.equal(condition.sample(2), condition.stored_rows[:2]) and condition.stored_rows.any()
    with pytest.raises(UserError, match="zorgon or quux"):
        condition.from_text("red zorgon quux", 1)
    with pytest.raises(UserError, match=r"is conditioned on `label`, .* give a number"):
        from oakleaf.conditioning.condition import Label

        Label(3).from_text("red", 1)


def folder(root: Path, captions: Path, change: Any) -> Path:
    root.mkdir()
    (root / "images").symlink_to(captions / "images")
    lines = (captions / "captions.txt").read_text().splitlines()
    (root / "captions.txt").write_text("\n".join(change(lines)) + "\n")
    return root


def test_an_empty_caption_is_named(captions: Path, tmp_path: Path) -> None:
    root = folder(tmp_path / "a", captions, lambda lines: [lines[0], 'red-square-0.png,"..."', *lines[2:]])
    with pytest.raises(UserError, match=r"red-square-0\.png: its caption has no word"):
        CaptionTokens(root)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"image,caption\na.png,a red, big square\n", "line 2: more values than columns"),
        (b'image,caption\na.png,"a red\nb.png,two\n', "unexpected end of data"),
        (b"image,caption\n,red\n", "line 2: a row lacks its image"),
        (b"image,caption\na.png\n", "line 2: a row lacks its caption"),
        (b"image,caption\na.png,caf\xe9\n", "is not UTF-8"),
        (b"image,caption\na.png," + b"a" * 200_000, "field larger than"),
        (b"image,caption\n", "no rows"),
    ],
)
def test_a_damaged_table_is_reported_by_its_line(tmp_path: Path, text: bytes, words: str) -> None:
    (tmp_path / "captions.txt").write_bytes(text)
    with pytest.raises(UserError, match=words):
        CaptionWords(tmp_path)


def test_a_captions_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "captions.txt").write_bytes(b'\xef\xbb\xbfimage,caption\na.png,"red, big"\n')
    assert CaptionWords(tmp_path).captions == [["red, big"]]


def test_a_mismatched_text_needs_a_batch_of_two(fit: Fit, captions: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least 2"):
        fit("model=gan_cls", *condition_options("gan_cls", captions), "data.batch_size=1", "max_images=4")


def test_a_caption_without_its_picture_is_named(captions: Path, tmp_path: Path) -> None:
    root = folder(tmp_path / "a", captions, lambda lines: [*lines, "nowhere.png,a red nothing"])
    with pytest.raises(UserError, match=r"nowhere\.png"):
        build(composed("model=gan_cls", "data=emoji_captions", f"data.root={root}", "data.source.group=null",
                       "data.source.split=train", "data.size=16", folder="x"))  # fmt: skip
    data = build(composed("model=gan_cls", "data=emoji_captions", f"data.root={root}", "data.source.group=null",
                          "data.on_corrupt=skip", "data.source.split=all", "data.size=16", folder="x"))[1]  # fmt: skip
    data.prepare_data()


def test_without_groups_each_picture_is_its_own_group(captions: Path, tmp_path: Path) -> None:
    root = folder(tmp_path / "a", captions, lambda lines: lines)
    (root / "metadata.csv").unlink(missing_ok=True)
    build(composed("model=gan_cls", "data=emoji_captions", f"data.root={root}", "data.size=16", folder="x"))
    assert len(set(CaptionWords(root, group="base").labels["group"])) == 98


@pytest.mark.slow
def test_a_run_resumes_with_its_own_vocabulary_only(fit: Fit, captions: Path, tmp_path: Path) -> None:
    options = condition_options("gan_cls", captions)
    fit("model=gan_cls", *options, *SMALL, folder=tmp_path / "run")
    content = read_checkpoint(tmp_path / "run")
    same, fold = (
        build(composed("model=gan_cls", *options, *more, folder="x"))[1] for more in ([], ["data.source.fold=1"])
    )
    check_classes(content, same)
    with pytest.raises(UserError, match=r"words that the checkpoint was trained with|knows \d+ words"):
        check_classes(content, fold)


def test_data_without_captions_are_refused() -> None:
    with pytest.raises(UserError, match="is conditioned on `caption`"):
        build(composed("model=gan_cls", "data=digits", folder="x"))


def test_the_command_line_overrides_the_model(captions: Path) -> None:
    options = ["model=gan_cls", "data=emoji_captions", f"data.root={captions}", "data.size=16"]
    more = ["loss=hinge", "optim.generator.lr=1e-5", "model.game.mismatched=false"]
    module, _, recipe = build(composed(*options, *more, folder="x"))
    assert recipe["loss"]["name"] == "hinge" and module.players["generator"].lr == 1e-5
    assert not module.game.mismatched


def test_the_networks_have_the_residual_blocks_of_the_authors_code() -> None:
    """reedscot/icml2016, main_cls_int.lua, at 64 pixels, ngf 128, ndf 64; StackGAN's stage I has the same."""

    def bottlenecks(network: nn.Module) -> list[list[tuple[int, int, int]]]:
        found = [layer.change for layer in network.modules() if isinstance(layer, Bottleneck)]
        convolutions = [[layer for layer in change if isinstance(layer, nn.Conv2d)] for change in found]
        return [[(c.in_channels, c.out_channels, c.kernel_size[0]) for c in change] for change in convolutions]

    large, small = [(1024, 256, 1), (256, 256, 3), (256, 1024, 3)], [(512, 128, 1), (128, 128, 3), (128, 512, 3)]
    for model in ("gan_cls", "stackgan"):
        width = "model.game.condition.width=10"
        game = composed(f"model={model}", "data=emoji_captions", "data.size=64", width, folder="x").model.game
        with torch.device("meta"):
            generator, critic = instantiate(game.generator), instantiate(game.discriminator)
        assert bottlenecks(generator) == [large, small]
        assert bottlenecks(critic) == [small]


def test_a_bottleneck_adds_before_its_activation() -> None:
    block, x = Bottleneck(8, "none", nn.ReLU()), torch.randn(2, 8, 4, 4)
    torch.testing.assert_close(block(x), (x + block.change(x)).relu())


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_text_embeddings_have_the_scale_of_the_noise(norm: Literal["batch", "none"]) -> None:
    """However many words are known and however few of them a text has."""
    torch.manual_seed(0)
    y = torch.zeros(64, 2000)
    y.scatter_(1, torch.randint(2000, (64, 4)), 0.25)
    generator = text.Generator(100, 2000, 3, 16, width=8, norm=norm)
    critic = text.Discriminator(2000, 3, 16, width=8, norm=norm)
    embedding = text.TextEmbedding(2000, 128)
    mean, _ = ConditioningAugmentation(2000, 128).gaussian(y).chunk(2, 1)
    for output in (generator.text(y), critic.text(y), embedding(y), mean):
        assert 0.5 < output.std() < 1.5
    torch.testing.assert_close(embedding(y), embedding(3 * y))


def test_the_augmentation_divergence_is_that_of_gaussians() -> None:
    """Zhang 2016, eq. (2), by torch.distributions; its gradient leads to N(0, I)."""
    torch.manual_seed(0)
    augmentation, y = ConditioningAugmentation(4, 3), torch.randn(5, 4)
    mean, log_sd = augmentation.gaussian(y).chunk(2, 1)
    exact = kl_divergence(Gaussian(mean, log_sd.exp()), Gaussian(0.0, 1.0)).sum(1)
    torch.testing.assert_close(augmentation.divergence(y), exact)
    eps = torch.randn(5, 3)
    torch.testing.assert_close(augmentation(y, eps), mean + log_sd.exp() * eps)


def test_the_augmentation_term_is_twice_the_mean_divergence(captions: Path) -> None:
    module, _, _ = build(composed("model=stackgan", *condition_options("stackgan", captions), folder="x"))
    game: Any = module.game
    rows = {"image": torch.rand(4, 3, 16, 16), "caption": torch.randint(0, 9, (4, 3))}
    losses, _ = game.player_losses("generator", rows, 1)
    divergence = game.generator.augmentation.divergence(game.condition(rows)).mean() / 128
    torch.testing.assert_close(losses["kl"], 2 * divergence)
    assert losses.keys() == {"adversarial", "kl"}


@pytest.mark.slow
@pytest.mark.parametrize("callbacks", [[], ["callbacks.samples=null", "callbacks.training_monitor=null"]], ids=str)
def test_the_frozen_stage_stays_as_it_was(fit: Fit, captions: Path, tmp_path: Path, callbacks: list[str]) -> None:
    run = first_stage(captions)
    options = ["model=stackgan_2", *condition_options("stackgan_2", captions), "data.batch_size=8", "max_images=32"]
    module, _ = fit(*options, *callbacks)
    first, before = module.game.frozen["stage1"], load(run).generator_ema.network.state_dict()  # type: ignore[union-attr]
    after = first.network.state_dict()  # type: ignore[union-attr]
    assert not first.training and module.game.training
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    trained = {id(weight) for group in module.optimizers()[1].param_groups for weight in group["params"]}  # type: ignore
    assert trained and not trained & {id(weight) for weight in first.parameters()}
    loaded = load(tmp_path)  # which needs no first run
    inputs = loaded.game.sample_inputs(3)
    assert torch.equal(loaded.game.first_image(inputs["latent"], loaded.game.condition(inputs)),
                       module.game.first_image(inputs["latent"], module.game.condition(inputs)))  # fmt: skip


def test_stage_two_depends_on_the_images_of_stage_one() -> None:
    torch.manual_seed(0)
    generator = StageTwoGenerator(6, 5, 1, 32, 16, text=4, width=4)
    z, y = torch.randn(1, 6).expand(2, 6), torch.rand(1, 5).expand(2, 5)
    one, other = generator(z, y, torch.rand(2, 1, 16, 16))
    assert (one - other).abs().max() > 1e-3


@pytest.mark.slow
def test_the_second_stage_reports_what_is_missing(fit: Fit, captions: Path, tmp_path: Path) -> None:
    options = [*condition_options("stackgan_2", captions), "model=stackgan_2", "data.batch_size=8", "max_images=8"]
    with pytest.raises(UserError, match=r"stage1\.checkpoint= is missing"):
        fit(*options, "model.frozen.stage1.checkpoint=null")
    with pytest.raises(UserError, match=r"network=encoder: the run .* has generator, discriminator"):
        fit(*options, "model.frozen.stage1.network=encoder")
    with pytest.raises(UserError, match="other words"):
        fit(*options, "data.source.fold=1")
    with pytest.raises(UserError, match="2, 4"):
        fit(*options, "data.size=24")
    with pytest.raises(UserError, match=r"model\.frozen\.stage1\.checkpoint=RUN"):
        fit(*options, "+model.game.stage1.run=x")


@pytest.mark.parametrize("model", ["stackgan", "stackgan_2"])
def test_given_latents_always_draw_the_same(captions: Path, model: str) -> None:
    module, data, _ = build(composed(f"model={model}", *condition_options(model, captions), folder="x"))
    for network in module.game.frozen.values():
        network.initialize(data)
    inputs = module.game.sample_inputs(3)
    assert torch.equal(module.sample(inputs), module.sample(inputs))


def test_the_share_of_found_captions_is_that_counted_by_hand() -> None:
    """Two words; the third image is more similar to another caption, and the fourth has the caption of the first."""
    y = torch.tensor([[1.0, 0], [0, 1], [0.5, 0.5], [1, 0]])
    logits = torch.tensor([[2.0, 0], [0, 2], [3, 0], [1, 0]])
    assert retrieval_accuracy(logits, y, 4) == 0.75
    assert retrieval_accuracy(torch.zeros(4, 2), y, 4) == 0.0  # ties are no finds


def test_retrieval_of_random_features_is_at_chance() -> None:
    torch.manual_seed(0)
    y = torch.rand(2000, 64)
    words = y - y.mean(1, keepdim=True)
    shares = torch.tensor([retrieval_accuracy(torch.randn(2000, 64), words, 50) for _ in range(3)])
    assert abs(shares.mean() - 0.02) < 3 * (0.02 * 0.98 / 6000) ** 0.5


@pytest.mark.slow
def test_retrieval_finds_copies_and_not_shuffled_images(fit: Fit, captions: Path, tmp_path: Path) -> None:
    options = [*condition_options("gan_cls", captions), "data.source.group=null", "data.batch_size=8", "max_images=8"]
    module, _ = fit("model=gan_cls", *options)
    data, _, test, *_ = real_data(read_checkpoint(tmp_path / "checkpoints/last.ckpt"), None, None)
    evaluation = EvaluationData(
        module, data, instantiate_allowed({"_target_": "oakleaf.metrics.extractors.Pixels"}), 16, 32, test=test
    )
    metric = Retrieval(among=10, images=60, training=Training(images=6000, batch=32, width=8, features=32))
    metric.prepare(evaluation)
    real = metric.baseline(evaluation)
    assert real["retrieval"] > 0.4  # neither set was seen by the classifier; chance is 0.1
    assert real["retrieval_held_out"] > 0.4

    rows = {name: data.rows[name] for name in ("caption", "image")}

    def copy(batch: dict[str, Tensor], ema: bool = True) -> Tensor:
        index = (batch["caption"][:, None] == rows["caption"][None]).all(2).float().argmax(1)
        return from_bytes(rows["image"][index])

    module.sample = copy  # type: ignore[method-assign, assignment]
    assert metric(*[None] * 2)["retrieval"] == pytest.approx(real["retrieval"])  # type: ignore[arg-type]
    rows["image"] = rows["image"][torch.randperm(len(rows["image"]))]
    assert metric(*[None] * 2)["retrieval"] < 0.35  # type: ignore[arg-type]
    assert "retrieval" in metric.better and metric.protocol()["among"] == 10


class Encoder:
    """A substitute for a sentence-transformers model: two numbers for each text."""

    def __init__(self, name: str) -> None:
        if name != "mine":
            raise OSError(f"{name} is not a folder\nand more")

    def encode(self, texts: list[str], show_progress_bar: bool) -> Any:
        return np.array([[len(text), text.count("e")] for text in texts], dtype=np.float64)


@pytest.mark.slow
def test_a_pretrained_text_encoder_conditions_the_networks(
    fit: Fit, captions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ["model/condition=sentence", "model.game.condition.width=2", "data.source.sentences=mine"]
    options = ["model=gan_cls", *condition_options("gan_cls", captions), *own, "data.batch_size=8", "max_images=16"]
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(UserError, match="is not installed"):
        fit(*options)
    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=Encoder))
    with pytest.raises(UserError, match="other is not a folder"):
        fit(*options, "data.source.sentences=other")
    with pytest.raises(UserError, match="is conditioned on `sentence`"):
        fit(*options, "data.source.sentences=null")
    module, _ = fit(*options)
    rows = load(tmp_path).game.condition.from_text("a red heart", 3)  # type: ignore[union-attr]
    assert rows.tolist() == [[11, 2]] * 3
    assert module.game.condition({"sentence": rows}).shape == (3, 2)  # type: ignore[misc]


def test_several_captions_of_a_picture_are_all_used(
    captions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=Encoder))
    first = "red-square-0.png"
    root = folder(tmp_path / "a", captions, lambda lines: [*lines, f"{first},red again and again"])
    source = CaptionTokens(root, sentences="mine")
    row = [file.name for file in source.files].index(first)
    words = [source.classes[word - 1] for word in source.labels["caption"][row] if word > 0]
    assert set(words) >= {"red", "square", "again"}
    assert source.labels["sentence"][row].tolist() == [(10 + 19) / 2, (2 + 1) / 2]


def test_attributes_make_captions() -> None:
    """Of CelebA's attributes, by hand; every word that may occur is in the vocabulary."""
    no = dict.fromkeys(REQUIRED_ATTRIBUTES, 0)
    assert describe({**no, "Young": 1, "Black_Hair": 1, "Smiling": 1}) == "a young woman with black hair, smiling"
    assert describe({**no, "Male": 1, "Bald": 1, "Eyeglasses": 1}) == "bald, an old man, wearing eyeglasses"
    all_set = dict.fromkeys(REQUIRED_ATTRIBUTES, 1)
    longest = describe(all_set), describe({**all_set, "Bald": 0})
    assert not {word for text in longest for word in tokenize(text)} - set(VOCABULARY)
