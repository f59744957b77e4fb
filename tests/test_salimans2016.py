"""Improved techniques (Salimans 2016): features matched, batches compared, classes learned from few labels."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from helpers.composing import composed
from helpers.training import Fit, built
from oakleaf.builder.load import load_weights
from oakleaf.cli.main import register
from oakleaf.data.sampling import EpochSampler, WorkerLoader
from oakleaf.data.semi_supervised import LabelSubset
from oakleaf.errors import UserError
from oakleaf.image_grid import from_bytes
from oakleaf.losses.objectives import FeatureMatching
from oakleaf.losses.terms import Supervised
from oakleaf.metrics.classification import ClassificationError
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.networks import dcgan, mlp
from oakleaf.networks.minibatch import MinibatchDiscrimination
from oakleaf.networks.salimans2016 import Discriminator, Generator, WeightNorm
from oakleaf.round import CriticOutput, Round
from oakleaf.runtime.checkpoint_io import read_checkpoint

NARROW = ["model.game.generator.hidden=[32,32]", "model.game.discriminator.hidden=[64,32,32]"]
FEW = ["model=improved", *NARROW, "data.labelled=20", "data.batch_size=50", "callbacks={}"]
KEPT = [*FEW, "+callbacks.checkpoint={_target_: oakleaf.callbacks.Checkpoint, folder: '${folder}/checkpoints'}"]
FAST = ["optim.discriminator.lr=3e-3", "optim.generator.lr=3e-3"]


@pytest.mark.parametrize("distance", ["squared", "absolute"])
def test_feature_matching_is_the_papers_formula(distance: str) -> None:
    torch.manual_seed(0)
    weight = torch.randn(3, 7)
    real, fake = torch.randn(5, 3), torch.randn(5, 3, requires_grad=True)
    objective = FeatureMatching(distance)
    loss = objective.generator(Round(real, fake, lambda x: CriticOutput(x.sum(1), features=x @ weight)))
    differences = [
        sum(float(f @ weight[:, k]) for f in fake) / 5 - sum(float(r @ weight[:, k]) for r in real) / 5
        for k in range(7)
    ]
    by_hand = sum(d**2 if distance == "squared" else abs(d) for d in differences) / 7
    assert loss.item() == pytest.approx(by_hand, rel=1e-5)
    loss.backward()
    assert fake.grad is not None
    assert fake.grad.abs().sum() > 0
    with pytest.raises(UserError, match="returns no features, which the loss"):
        objective.generator(Round(real, fake, lambda x: CriticOutput(x.sum(1))))


def test_minibatch_discrimination_equals_the_papers_sums() -> None:
    torch.manual_seed(0)
    layer = MinibatchDiscrimination(6, kernels=4, dims=3)
    layer.log_scale.data.normal_()
    x = torch.randn(5, 6)
    length = (layer.kernel**2).sum(0).sqrt()
    rows = torch.einsum("bi,ikd->bkd", x, layer.kernel / length * layer.log_scale.exp())
    output = layer(x)
    assert output.shape == (5, 10)
    assert torch.equal(output[:, :6], x)
    for i in range(5):
        for b in range(4):
            o = sum(
                float(torch.exp(-sum(abs(rows[i, b, c] - rows[j, b, c]) for c in range(3)))) for j in range(5) if j != i
            )
            assert output[i, 6 + b].item() == pytest.approx(o, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("critic", [
    dcgan.Discriminator(2, 16, width=4, minibatch=8),
    mlp.Discriminator(2, 16, (8, 8), minibatch=8),
])  # fmt: skip
def test_minibatch_discrimination_detects_a_collapsed_batch(critic: torch.nn.Module) -> None:
    """Each sample's score depends on the others; without minibatch discrimination (in eval mode) it does not."""
    torch.manual_seed(0)
    critic.eval()
    x = torch.rand(6, 2, 16, 16) * 2 - 1
    collapsed = x[:1].expand(6, -1, -1, -1)
    features = critic(collapsed).features
    assert features is not None
    assert torch.allclose(features[:, -8:], torch.full((6, 8), 5.0))  # five others at no distance
    assert not torch.isclose(critic(x).score[0], critic(collapsed).score[0])


def test_score_is_the_log_of_z_and_fake_the_class_of_logit_0() -> None:
    torch.manual_seed(0)
    critic = Discriminator(1, 4, classes=10, hidden=(16, 8)).eval()
    output = critic(torch.rand(5, 1, 4, 4) * 2 - 1)
    assert output.classes is not None
    assert output.features is not None
    assert output.features.shape == (5, 8)
    z = output.classes.double().exp().sum(1)
    torch.testing.assert_close(output.score.double(), z.log(), rtol=1e-5, atol=1e-6)
    probabilities = torch.cat([output.classes, torch.zeros(5, 1)], 1).softmax(1)  # K + 1 classes
    torch.testing.assert_close(output.score.sigmoid(), 1 - probabilities[:, -1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(output.score.double().sigmoid(), z / (z + 1), rtol=1e-5, atol=1e-6)


def test_the_discriminator_loss_is_twice_the_loss_of_the_authors_code(tmp_path: Path) -> None:
    quiet = ["model.game.discriminator.noise_input=0", "model.game.discriminator.noise_hidden=0"]
    module, *_ = built(*FEW, *quiet, folder=tmp_path)
    torch.manual_seed(1)
    x, few, label = torch.rand(50, 1, 16, 16), torch.rand(50, 1, 16, 16), torch.arange(50) % 10
    batch = {"image": x, "label": torch.full((50,), -1), "labelled_image": few, "labelled_label": label}
    game = module.game
    game.player_losses("discriminator", batch, 1)  # from here on its scales stay
    torch.manual_seed(2)
    terms, _ = game.player_losses("discriminator", batch, 1)
    torch.manual_seed(2)
    fake = game.generate(game.sample_inputs(50))
    real_lse, fake_lse = (game.discriminator(images).classes.logsumexp(1) for images in (x, fake))
    labelled = cross_entropy(game.discriminator(few).classes, label)
    unlabelled = (-real_lse + softplus(real_lse)).mean() / 2 + softplus(fake_lse).mean() / 2
    torch.testing.assert_close(sum(terms.values()), 2 * (labelled + unlabelled))
    assert terms["supervised"].item() == pytest.approx(2 * labelled.item(), rel=1e-5)


def test_the_supervised_term_uses_the_labels_of_the_batch_where_all_are_known() -> None:
    torch.manual_seed(0)
    x, label = torch.randn(6, 4), torch.tensor([0, 3, -1, 2, 1, -1])
    rounds = Round(x, x, lambda x: CriticOutput(x.logsumexp(1), x), {"label": label})
    known = label >= 0
    assert Supervised(2.0)(rounds).item() == pytest.approx(2 * cross_entropy(x[known], label[known]).item(), rel=1e-5)
    with pytest.raises(UserError, match="needs labels"):
        Supervised()(Round(x, x, lambda x: CriticOutput(x.logsumexp(1), x), {"attributes": label}))


def test_the_discriminator_is_initialized_from_real_images_alone(tmp_path: Path) -> None:
    module, data, *_ = built(*FEW, "model.game.discriminator.noise_input=0", folder=tmp_path)
    data.prepare_data()
    data.setup()
    game = module.game.eval()
    torch.manual_seed(0)
    game.initialize_from_data(data)
    first = game.discriminator.layers[1]
    on_real = first((from_bytes(data.rows["image"]).flatten(1) + 1) / 2)
    on_fake = first((game.generate(game.sample_inputs(500)).flatten(1) + 1) / 2)
    mean = on_real.mean(0).abs()
    assert mean.mean() < 0.1  # initialized from 500 of the 1,617 images
    assert (on_real.std(0) - 1).abs().mean() < 0.1
    assert on_fake.mean(0).abs().mean() > 5 * mean.mean()
    assert not game.discriminator.training


def test_the_first_batch_sets_scale_and_bias_once() -> None:
    torch.manual_seed(0)
    layer = WeightNorm(20, 5)
    x = 3 * torch.rand(200, 20) + 1
    layer.eval()(x)
    assert not layer.initialized
    output = layer.train()(x)
    torch.testing.assert_close(output.mean(0), torch.zeros(5), rtol=0, atol=1e-4)
    torch.testing.assert_close(output.std(0), torch.ones(5), rtol=0, atol=1e-2)
    g, b = layer.g.clone(), layer.b.clone()
    layer(torch.randn(200, 20))
    assert torch.equal(g, layer.g)
    restored = WeightNorm(20, 5)
    restored.load_state_dict(layer.state_dict())
    assert restored.initialized
    weights = restored.g[:, None] * restored.v / restored.v.norm(dim=1, keepdim=True)
    torch.testing.assert_close(restored(x), x @ weights.T + b, rtol=1e-4, atol=1e-4)
    assert dict(WeightNorm(3, 2).named_parameters()).keys() == {"v", "b"}  # the code learns g of the last layer alone
    assert dict(WeightNorm(3, 2, scaled=True).named_parameters()).keys() == {"v", "b", "g"}


def test_networks_have_the_papers_widths_and_any_size() -> None:
    generator, discriminator = Generator(100, 1, 28), Discriminator(1, 28, 10)
    widths = [tuple(w.shape) for w in discriminator.parameters() if w.dim() == 2]
    assert widths == [(1000, 784), (500, 1000), (250, 500), (250, 250), (250, 250), (10, 250)]
    assert [tuple(w.shape) for w in generator.parameters() if w.dim() == 2] == [(500, 100), (500, 500), (784, 500)]
    images = Generator(7, 5, (8, 12), (9, 9))(torch.rand(4, 7))
    assert images.shape == (4, 5, 8, 12)
    assert images.abs().max() <= 1
    assert Discriminator(5, (8, 12), 3, (9, 9))(images).classes.shape == (4, 3)


def labels(count: int = 200, classes: int = 4) -> dict[str, Tensor]:
    return {"label": torch.randint(classes, (count,), generator=torch.Generator().manual_seed(0))}


def test_labelled_images_are_balanced_and_follow_from_their_seed() -> None:
    kept = LabelSubset(20, seed=1).rows(labels())
    assert torch.bincount(labels()["label"][kept]).tolist() == [5, 5, 5, 5]
    assert len(kept.unique()) == 20
    assert torch.equal(kept, LabelSubset(20, seed=1).rows(labels()))
    assert not torch.equal(kept, LabelSubset(20, seed=2).rows(labels()))


@pytest.mark.parametrize(
    ("count", "rows", "sentence"),
    [
        (21, labels(), "multiple of the 4 classes"),
        (4000, labels(), "at most"),
        (20, {}, "no labels to keep"),
        (20, {"label": torch.full((9,), -1)}, "no labels to keep"),
    ],
)
def test_missing_labels_are_an_error_of_one_sentence(count: int, rows: dict[str, Tensor], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        LabelSubset(count, 0).rows(rows)


def test_semi_supervised_learning_without_labels_is_refused(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("L", (20, 20)).save(tmp_path / name)
    root = ["data=folder", f"data.root={tmp_path}", "data.size=16"]
    with pytest.raises(UserError, match="model=improved needs labels, and data=folder has none"):
        built(*root, "model=improved", folder=tmp_path)
    _, data, trainer, _ = built(*root, "data.labelled=2", folder=tmp_path)
    data.prepare_data()
    data.setup()
    data.trainer = trainer
    with pytest.raises(UserError, match="these images have no labels"):
        data.train_dataloader()


def test_labelled_images_are_repeated_in_shuffled_passes() -> None:
    few = torch.tensor([3, 14, 15, 92, 65, 35, 89])
    batches = list(EpochSampler(100, 10, seed=0, oversample=few).batches(0))
    assert all(len(rows) == len(mirrored) == 20 for rows, mirrored in batches)
    plain = list(EpochSampler(100, 10, seed=0).batches(0))
    assert all(torch.equal(rows[:10], other) for (rows, _), (other, _) in zip(batches, plain))  # others as ever
    repeated = torch.cat([rows[10:] for rows, _ in batches])
    passes = [repeated[start : start + 7] for start in range(0, 98, 7)]
    assert all(sorted(tiling.tolist()) == sorted(few.tolist()) for tiling in passes)
    assert len({tuple(tiling.tolist()) for tiling in passes}) > 10
    later = list(EpochSampler(100, 10, seed=0, oversample=few).batches(6))
    assert torch.equal(later[0][0], batches[6][0])
    halves = [next(EpochSampler(100, 5, 0, rank, 2, few).batches(3))[0] for rank in (0, 1)]
    assert torch.equal(torch.cat([halves[0][5:], halves[1][5:]]), batches[3][0][10:])


def test_batches_show_only_the_labels_of_labelled_images(tmp_path: Path) -> None:
    _, data, trainer, _ = built(*FEW, "data.flip=true", folder=tmp_path)
    data.prepare_data()
    data.setup()
    trainer.datamodule = data
    data.trainer = trainer
    resident = data.train_dataloader()
    one = [data.on_after_batch_transfer(batch, 0) for batch in resident]
    streamed = WorkerLoader(resident.rows, resident.sampler, data.iteration, workers=2)
    for batch, other in zip(one, [data.on_after_batch_transfer(batch, 0) for batch in streamed]):
        assert batch.keys() == other.keys() == {"image", "label", "labelled_image", "labelled_label"}
        assert all(torch.equal(batch[name], other[name]) for name in batch)
        assert len(batch["image"]) == len(batch["labelled_image"]) == 50
        assert batch["labelled_image"].min() >= -1
        assert set(batch["labelled_label"].tolist()) == set(range(10))
    streamed.close()
    assert len(torch.cat([batch["labelled_image"] for batch in one]).flatten(1).unique(dim=0)) <= 40  # and mirrored
    shown = torch.cat([batch["label"] for batch in one])
    assert (shown >= 0).sum() <= 20
    assert (data.rows["label"] >= 0).all()  # metrics know all


@pytest.mark.slow
def test_learning_from_few_labels_resumes_exactly(fit: Fit, tmp_path: Path) -> None:
    run = [*KEPT, "optim.ema.of=[generator,discriminator]", "callbacks.checkpoint.keep_every=50"]
    uninterrupted, _ = fit(*run, "max_images=500", folder=tmp_path / "a")
    cut = tmp_path / "a" / "checkpoints" / f"{150:012d}.ckpt"
    again, _ = fit(*run, "max_images=500", "data.keep=workers", "data.workers=1", checkpoint=cut, folder=tmp_path / "b")
    assert all(torch.equal(a, b) for a, b in zip(uninterrupted.state_dict().values(), again.state_dict().values()))


@pytest.mark.slow
def test_few_labels_beat_chance_and_classification_error_counts_it(fit: Fit, tmp_path: Path) -> None:
    options = [*KEPT, *FAST, "model.game.generator.hidden=[64,64]", "optim.ema.of=[generator,discriminator]"]
    module, trainer = fit(*options, "data.labelled=100", "max_images=5000")
    data = trainer.datamodule
    evaluation = EvaluationData(module, data, None, fake=10, real=100)
    measure = ClassificationError()
    measure.prepare(evaluation)
    numbers = measure(None, None)
    assert numbers["classification_error"] < 0.35  # chance: 0.9
    _, test, _ = evaluation.validation_and_test()
    means = module.ema["discriminator"].network
    x = test.pixels.float() / 127.5 - 1
    assert numbers["classification_errors"] == int((means(x).classes.argmax(1) != test.label).sum())
    assert measure.protocol()["discriminator_ema"] is True
    evaluation = EvaluationData(module, data, None, fake=10, real=100, ema=False)
    measure.prepare(evaluation)
    live = module.game.discriminator.eval()
    assert measure.errors == int((live(x).classes.argmax(1) != test.label).sum())
    assert measure.protocol()["discriminator_ema"] is False


@pytest.mark.parametrize("model", ["gan", "bigan", "lapgan", "autoencoder"])
@pytest.mark.slow
def test_classification_error_needs_a_discriminator_with_classes(fit: Fit, model: str) -> None:
    module, trainer = fit(f"model={model}", "max_images=64", "callbacks={}")
    with pytest.raises(UserError, match="predicts classes"):
        ClassificationError().prepare(EvaluationData(module, trainer.datamodule, None, 10, 100))


def test_ema_weights_are_kept_of_any_players(fit: Fit, tmp_path: Path) -> None:
    module, _ = fit(*KEPT, "optim.ema.of=[generator,discriminator]", "max_images=150")
    for name, mean in module.ema.items():
        with module.ema_scope() as game:
            assert game.get_submodule(name) is mean.network
        with module.ema_scope(False) as game:
            assert game.get_submodule(name) is not mean.network
        assert module.game.get_submodule(name) is not mean.network


def test_a_strange_player_to_average_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="of=critic: no such player; the players are discriminator and generator"):
        built("optim.ema.of=[critic]", folder=tmp_path)


def test_the_command_line_overrides_the_models_choices(tmp_path: Path) -> None:
    register()
    assert composed("model=improved").loss.name == "feature_matching"
    config = composed("model=improved", "loss=hinge", "optim.generator.lr=1e-5")
    assert config.loss.name == "hinge"
    assert config.optim.generator.lr == 1e-5
    module, _, _, _ = built("model=improved", "loss=hinge", *NARROW, folder=tmp_path)
    assert type(module.game.loss.objective).__name__ == "Hinge"


def test_a_conditional_model_refuses_hidden_labels(tmp_path: Path) -> None:
    for model in ("acgan", "cgan"):
        with pytest.raises(UserError, match=f"data.labelled=20: model={model} is conditioned on each image's label"):
            built(f"model={model}", "data.labelled=20", folder=tmp_path)


def test_loading_weights_of_another_number_of_classes_is_refused(tmp_path: Path, fit: Fit) -> None:
    fit(*KEPT, "max_images=50", folder=tmp_path / "ten")
    for name in ("a", "b", "c"):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.new("L", (16, 16)).save(tmp_path / "set" / name / "1.png")
    few = ["model=improved", *NARROW, "data=folder", f"data.root={tmp_path / 'set'}", "data.size=16"]
    module, *_ = built(*few, folder=tmp_path / "three")
    with pytest.raises(UserError, match="the checkpoint was trained with 10 classes, and this data has 3"):
        load_weights(module, read_checkpoint(tmp_path / "ten"))
