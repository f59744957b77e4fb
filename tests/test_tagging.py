"""Tags: words and their vectors, splits that leak nothing, votes and scores counted by hand, and a whole run."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from helpers.composing import FP32, SMALL, composed
from helpers.training import built
from oakleaf.builder.build import build
from oakleaf.builder.instantiate import instantiate_allowed
from oakleaf.builder.load import load
from oakleaf.data.captions import CaptionWords, split_of
from oakleaf.data.images import Images
from oakleaf.data.tags import TaggedImages, Tags
from oakleaf.data.word_vectors import word_vectors
from oakleaf.errors import UserError
from oakleaf.figures.grid import captioned_grid
from oakleaf.metrics.descriptors import Descriptors, colour_histograms, gradient_histograms, oriented_gradients
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.extractors import Pixels
from oakleaf.metrics.scores import evaluate_metrics, table
from oakleaf.metrics.tags import (
    Tagging,
    precision_and_recall,
    score_by_frequency,
    score_by_neighbours,
    score_by_votes,
    top_tags,
)
from oakleaf.networks.tagging import Discriminator, Generator
from oakleaf.sampling.figure import draw_samples

TINY = ["data=emoji_tags", "data.pixels=16", "data.width=8", "data.least=1", "data.channels=12"]


def tags(*overrides: str) -> Tags:
    """The data of a configuration, resolved as `build` does."""
    return instantiate_allowed(OmegaConf.to_container(composed(*TINY, *overrides), resolve=True)["data"])


def tagged_images(features, words, word_count=None, group=None) -> TaggedImages:
    words = torch.tensor(words, dtype=torch.uint8)
    count = len(words)
    word_count = words.sum(1) if word_count is None else torch.tensor(word_count)
    group = torch.arange(count) if group is None else torch.tensor(group)
    pixels = torch.zeros(count, 3, 4, 4, dtype=torch.uint8)
    return TaggedImages(pixels, torch.tensor(features).float(), words, word_count, group)


def test_words_that_occur_together_share_a_direction_and_others_are_orthogonal() -> None:
    words = torch.tensor([[1, 1, 0, 0]] * 3 + [[0, 0, 1, 1]] * 2 + [[0, 0, 1, 0]])  # red rose, sea wave
    vectors = word_vectors(words, 2)
    cosine = vectors @ vectors.T
    torch.testing.assert_close(cosine[0, 1], torch.tensor(1.0))
    assert cosine[2, 3] > 0.99
    assert cosine[:2, 2:].abs().max() < 1e-5
    torch.testing.assert_close(word_vectors(words, 9).norm(dim=1), torch.ones(4))  # more than there are words


def test_vectors_span_the_leading_axes_of_the_cosines_of_cooccurrence() -> None:
    torch.manual_seed(0)
    words = (torch.rand(40, 6) < 0.4).double()
    columns = words / words.norm(dim=0)
    axes = torch.linalg.svd(columns).Vh[:3].T  # [V, 3], another way to the same plane
    by_hand = axes / axes.norm(dim=1, keepdim=True)
    torch.testing.assert_close(word_vectors(words, 3) @ word_vectors(words, 3).T, (by_hand @ by_hand.T).float())


def test_no_group_is_in_two_splits_and_the_five_test_splits_have_all_groups(captions: Path) -> None:
    tested: list[str] = []
    for fold in range(5):
        splits = {name: CaptionWords(captions, name, "base", fold) for name in ("train", "valid", "test")}
        groups = {name: {file.stem.rsplit("-", 1)[0] for file in found.files} for name, found in splits.items()}
        assert len(set().union(*groups.values())) == 49
        assert sum(map(len, groups.values())) == 49
        assert all(len(found) == 2 * len(groups[name]) for name, found in splits.items())  # variants stay together
        tested += groups["test"]
    assert sorted(tested) == sorted(set(tested))
    assert len(tested) == 49


def test_an_added_picture_does_not_move_others_between_parts() -> None:
    assert [split_of(f"group {i}", 3) for i in range(50)] == [split_of(f"group {i}", 3) for i in range(50)]
    shares = np.array([split_of(f"group {i}", 0) for i in range(5000)])
    for name, share in (("train", 0.7), ("valid", 0.1), ("test", 0.2)):
        assert (shares == name).mean() == pytest.approx(share, abs=0.02)


@pytest.mark.slow
def test_nothing_is_learned_from_held_out_pictures(captions: Path, tmp_path: Path) -> None:
    root = tmp_path / "changed"
    shutil.copytree(captions, root)
    tested = {file.name for file in CaptionWords(root, "test", "base").files}
    lines = (root / "captions.txt").read_text().splitlines()
    changed = [f"{line.split(',')[0]},zebra" if line.split(",")[0] in tested else line for line in lines]
    (root / "captions.txt").write_text("\n".join(changed))
    for name in tested:
        Image.new("RGB", (16, 16), "purple").save(root / "images" / name)
    one, other = (tags(f"data.root={folder}") for folder in (captions, root))
    for data in (one, other):
        data.setup()
    assert one.classes == other.classes
    assert "zebra" not in other.classes
    assert other.part("test").word_count.tolist() == [1] * len(tested)  # counted, but not in the vocabulary
    assert other.part("test").words.sum() == 0
    torch.testing.assert_close(one.vectors, other.vectors)
    torch.testing.assert_close(one.rows, other.rows)


@pytest.mark.slow
def test_a_picture_has_a_row_for_each_word_or_one_with_their_mean(captions: Path) -> None:
    words = tags(f"data.root={captions}")
    words.setup()
    attributes = words.part("train").words
    assert len(words.rows["image"]) == attributes.sum()
    row, word = torch.nonzero(attributes, as_tuple=True)
    torch.testing.assert_close(words.rows["image"].flatten(1), words.vectors[word])
    torch.testing.assert_close(words.rows["features"], words.part("train").features[row])
    test = words.part("test")
    torch.testing.assert_close(test.features.square().mean(1), torch.ones(len(test.group)))
    means = tags(f"data.root={captions}", "data.target=caption")
    means.setup()
    assert len(means.rows["image"]) == len(attributes)
    by_hand = torch.stack([words.vectors[row.bool()].sum(0) for row in attributes])
    torch.testing.assert_close(means.rows["image"].flatten(1), by_hand / by_hand.norm(dim=1, keepdim=True))


def test_scores_are_those_counted_by_hand() -> None:
    three = tagged_images(
        [[0.0]] * 3, [[1, 1, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 1, 0]], word_count=[4, 1, 1], group=[7, 9, 9]
    )
    found = precision_and_recall(torch.tensor([[0, 3, 1], [1, 4, 2], [0, 1, 2]]), three)
    assert found["precision"] == pytest.approx((2 / 3 + 1 / 3 + 0) / 3)
    assert found["recall"] == pytest.approx((2 / 4 + 1 + 0) / 3)
    assert found["precision_by_group"] == pytest.approx((2 / 3 + (1 / 3 + 0) / 2) / 2)
    assert found["recall_by_group"] == pytest.approx((2 / 4 + (1 + 0) / 2) / 2)


def test_votes_equal_counts_by_hand() -> None:
    vectors = torch.eye(4)
    samples = torch.tensor([[[2.0, 1, 0, 0], [3, 0, 1, 0], [0, 0, 0.1, 0.2]]])
    votes = score_by_votes(samples, vectors, 1)
    assert votes.floor().tolist() == [[2, 0, 0, 1]]
    assert score_by_votes(samples, vectors, 2).floor().tolist() == [[2, 1, 2, 1]]
    assert top_tags(votes, 3).tolist() == [[0, 3, 2]]  # a tie without votes: by the mean cosine


def test_neighbours_vote_and_ties_go_to_the_nearer_then_to_the_more_frequent() -> None:
    train = tagged_images(
        [[1, 0], [0.9, 0.1], [0, 1], [0, 1]], [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]]
    )
    asked = tagged_images([[2, 0]], [[1, 0, 0, 0]])
    two = score_by_neighbours(train, 2, asked)
    assert top_tags(two, 2).tolist() == [[0, 1]]  # one vote each, 0 is nearer
    assert two[0, 3] > two[0, 2]  # no votes, but more frequent
    assert top_tags(score_by_neighbours(train, 4, asked), 1).tolist() == [[3]]  # two votes
    torch.testing.assert_close(score_by_frequency(train, asked), torch.tensor([[0.25, 0.25, 0.25, 0.5]]))


@pytest.mark.slow
def test_tags_of_held_out_pictures_are_learned_and_shown(captions: Path, tmp_path: Path) -> None:
    options = ["experiment=emoji_tags", *TINY, f"data.root={captions}", "data.width=32", "data.batch_size=32"]
    data_seen = [
        "max_images=6400",
        "model.game.generator.condition_units=64",
        "model.game.discriminator.condition_units=64",
    ]
    module, data, trainer, _ = built(*FP32, *options, *data_seen, folder=tmp_path)
    trainer.fit(module, datamodule=data)
    assert isinstance(data, Tags)
    measured = Tagging(samples=20, closest=3, neighbours=[1, 4], count=3)
    findings = evaluate_metrics({"tags": measured}, EvaluationData(load(tmp_path), data, Pixels(), 10, 100))
    assert not findings.failures
    found = {score.name: score for score in findings.scores}
    assert found["tags_recall"].value > found["tags_recall_frequency"].value + 0.2
    assert found["tags_recall"].baseline == pytest.approx(1.0)  # the ceiling: captions have two or three words
    assert found["tags_recall"].baseline >= found["tags_recall_neighbours"].value
    word_count = data.part("test").word_count.double()
    assert found["tags_precision"].baseline == pytest.approx(float((word_count / 3).mean()))
    protocol = found["tags_precision"].protocol
    assert protocol["neighbours"] in (1, 4)
    assert [sum(sizes) for sizes in zip(*protocol["parts"].values())] == [98, 49]
    assert "tags_recall_by_group_neighbours" in table(findings)
    assert findings.pictures["tags"].width > 500


@pytest.mark.slow
def test_other_data_are_refused(captions: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is conditioned on `features`, and data=digits has `label`"):
        build(composed("model=tagging", folder=tmp_path))
    with pytest.raises(UserError, match=r"captions\.txt is missing: .* data\.root=FOLDER"):
        build(composed("model=tagging", "data=emoji_tags", f"data.root={tmp_path}", folder=tmp_path))
    with pytest.raises(UserError, match="names no column colour"):
        build(composed("model=tagging", *TINY, f"data.root={captions}", "data.source.group=colour", folder=tmp_path))
    data = tags(f"data.root={captions}", "data.least=99")
    with pytest.raises(UserError, match="no word is in the captions of so many training pictures"):
        data.setup()


def test_captioned_pictures_may_have_any_size_and_mode_and_a_missing_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text("image,caption\nwide.png,a wall\ngrey.png,fog\n")
    Image.new("RGB", (40, 9), "red").save(tmp_path / "wide.png")
    Image.new("L", (12, 30), 99).save(tmp_path / "grey.png")
    source = partial(CaptionWords, upscale=True)
    for channels in (1, 3):
        images = Images("pictures", source, str(tmp_path), 16, channels, cache=str(tmp_path / "cache"))
        images.setup()
        assert images.rows["image"].shape == (2, channels, 16, 16)
    assert images.rows["image"][:, :, 8, 8].tolist() == [[255, 0, 0], [99, 99, 99]]
    assert images.source.captions == [["a wall"], ["fog"]]
    (tmp_path / "grey.png").unlink()
    with pytest.raises(UserError, match=r"grey\.png: captions.txt lists it, but it does not exist"):
        Images("pictures", source, str(tmp_path), 16, 3, cache=str(tmp_path / "cache")).setup()


def test_a_folder_without_metadata_has_each_picture_alone(captions: Path, tmp_path: Path) -> None:
    root = tmp_path / "plain"
    shutil.copytree(captions / "images", root)  # pictures beside captions.txt, two lines for one of them
    text = (captions / "captions.txt").read_text()
    (root / "captions.txt").write_text(text + "red-disc-0.png,Seen before; it's O\u2019Hara's ball-point\n")
    found = CaptionWords(root)
    assert len(found) == 98
    assert len(np.unique(found.labels["group"])) == 98
    row = [file.name for file in found.files].index("red-disc-0.png")
    words = {found.classes[i] for i in np.flatnonzero(found.labels["attributes"][row])}
    every = {"red", "disc", "seen", "before", "it's", "o\u2019hara's", "ball-point"}
    assert {"red", "disc"} <= words <= every
    assert found.labels["word_count"][row] == len(every)


def test_the_command_line_overrides_the_experiment() -> None:
    config = composed("experiment=emoji_tags", "loss=hinge", "optim.generator.lr=1e-5", "data.channels=50")
    assert (config.loss.name, config.optim.generator.lr, config.data.channels) == ("hinge", 1e-5, 50)


def test_networks_are_those_of_the_paper() -> None:
    generator, discriminator = Generator(100, 4096, 200, 1), Discriminator(4096, 200, 1)
    shapes = [tuple(weight.shape) for weight in generator.parameters() if weight.dim() == 2]
    assert shapes == [(500, 100), (2000, 4096), (200, 2500)]
    shapes = [tuple(weight.shape) for weight in discriminator.parameters() if weight.dim() == 2]
    assert shapes == [(500, 200), (1200, 4096), (3000, 1700), (1, 1000)]


def test_a_product_critic_is_linear_in_the_condition_and_directions_have_length_one() -> None:
    torch.manual_seed(0)
    critic = Discriminator(8, 5, 1, 4, 6, 3, joins="product").eval()
    x, y = torch.randn(7, 5, 1, 1), torch.randn(7, 8)
    condition = torch.relu(y @ critic.condition_net[0].weight.T + critic.condition_net[0].bias)
    product = (x.flatten(1) * critic.projection(condition)).sum(1) / 6**0.5
    unconditional = critic.score(critic.joint(torch.relu(critic.word[0](x.flatten(1))))).squeeze(1)
    torch.testing.assert_close(critic(x, y).score, unconditional + product)
    drawn = Generator(3, 8, 5, 1, 4, 6, unit=True)(torch.randn(7, 3), y)
    torch.testing.assert_close(drawn.flatten(1).norm(dim=1), torch.ones(7))


def test_descriptors_respond_to_an_edge_and_a_colour() -> None:
    image = torch.zeros(1, 3, 16, 16)
    image[..., 8:] = 1.0  # a step across, gradient in direction 0
    directions = oriented_gradients(image)
    assert directions[0, 0].sum() == directions.sum() == 2 * 16
    assert gradient_histograms(directions, 4).shape == (1, 9 * 16)
    blue = torch.tensor([0, 0, 255], dtype=torch.uint8)[None, :, None, None].expand(1, 3, 16, 16)
    assert colour_histograms(blue, 4, 1).flatten().nonzero().flatten().tolist() == [3]  # (0, 0, 3) of 4^3


@pytest.mark.slow
def test_descriptors_use_the_principal_axes_of_their_pictures(captions: Path) -> None:
    data = tags(f"data.root={captions}")
    data.setup()
    extractor = Descriptors(8)
    images = data._images(split="train")
    images.setup()
    extractor.prepare(images, "cpu")
    seen = extractor(images.rows["image"]).features
    covariance = torch.cov(seen.T)
    torch.testing.assert_close(covariance, covariance.diag().diag(), atol=1e-4, rtol=0)
    assert (covariance.diag().diff() <= 0).all()
    with pytest.raises(UserError, match="components at most"):
        Descriptors(5000).prepare(images, "cpu")


def test_vectors_and_captions_are_drawn_as_pictures(tmp_path: Path) -> None:
    module, *_ = built(*SMALL, folder=tmp_path)
    assert draw_samples(module, torch.randn(9, 30, 1, 1)).height >= 9
    shown = captioned_grid(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), [["told: a", "tags: b " * 40]] * 3)
    assert shown.size == (2 * 496, 2 * 104)
