"""BiGAN and ALI: the encoder's loss, scores of pairs, quality of inference, and configuration."""

import json
import math
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.errors import ConfigCompositionException
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from helpers.commands import quick
from helpers.composing import FP32, choices, composed
from helpers.composing import SMALL as NARROW
from helpers.data import InMemory
from helpers.training import Fit, built
from oakleaf.augment.noise import Noise
from oakleaf.builder.load import load
from oakleaf.cli.real_data import real_data
from oakleaf.conditioning.priors import Normal, Uniform
from oakleaf.data.toy import Points
from oakleaf.errors import UserError
from oakleaf.games import Bidirectional, Game
from oakleaf.games.bidirectional import pairs
from oakleaf.losses import divergences, objectives
from oakleaf.losses.loss import Loss
from oakleaf.losses.penalties import GradientPenalty
from oakleaf.metrics.encoder import EncoderOneNN
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.extractors import Pixels
from oakleaf.metrics.neighbours import shuffled
from oakleaf.networks import ali, bigan
from oakleaf.optim.schedules import Exponential
from oakleaf.round import CriticOutput, EncoderRound, Round
from oakleaf.runtime.checkpoint_io import read_checkpoint
from oakleaf.sampling import Reconstruct

SMALL = ["model.game.generator.hidden=[16,16]", "model.game.encoder.hidden=[16,12]",
         "model.game.discriminator.hidden=[16,16]"]  # fmt: skip
TINY = ["model=bigan", *SMALL, "data.batch_size=16", "max_images=320", "trainer=cpu", "logger=csv"]


class Flat(nn.Module):
    """x -> z, x's mean times a weight: an encoder or, the other way, a generator."""

    def __init__(self, back: bool = False) -> None:
        super().__init__()
        self.weight, self.back = nn.Parameter(torch.tensor([0.7, -0.4])), back

    def forward(self, x: Tensor) -> Tensor:
        if self.back:
            return (x @ self.weight)[:, None, None, None].expand(-1, 1, 2, 2)
        return x.flatten(1).mean(1, keepdim=True) * self.weight


class Score(nn.Module):
    """D(x, z), the same function for a hand-written formula."""

    def forward(self, x: Tensor, z: Tensor) -> CriticOutput:
        return CriticOutput(
            (x.flatten(1) * torch.tensor([1.0, 2.0, -1.0, 0.5])).sum(1) + (z * torch.tensor([3.0, -2.0])).sum(1)
        )


def game(objective: object, **options: object) -> Bidirectional:
    torch.manual_seed(0)
    return Bidirectional(Flat(back=True), Flat(), Score(), Normal(2), Loss("it", objective, **options))  # type: ignore[arg-type]


def f_gan(divergence: divergences.Divergence, generator: str = "alternative") -> divergences.FDivergence:
    return divergences.FDivergence(divergence, generator)  # type: ignore[arg-type]


S = partial(torch.tensor, dtype=torch.float64)
BY_HAND = {  # s: scores of (x, E(x)); t: of (G(z), z)
    "non-saturating": (objectives.NonSaturating(), lambda s, t: -(1 - s.sigmoid()).log()),
    "smoothed": (objectives.NonSaturating(0.1), lambda s, t: -(1 - s.sigmoid()).log()),
    "saturating": (objectives.Saturating(), lambda s, t: s.sigmoid().log()),
    "least squares": (objectives.LeastSquares(), lambda s, t: s.square() / 2),
    "Pearson's": (objectives.LeastSquares(-1, 1, 0), lambda s, t: s.square() / 2),
    "lopsided": (objectives.LeastSquares(-1.0, 2.0, 1.5), lambda s, t: (s + 0.5).square() / 2),
    "hinge": (objectives.Hinge(), lambda s, t: s),
    "Wasserstein": (objectives.Wasserstein(), lambda s, t: s),
    "relativistic": (objectives.Relativistic(), lambda s, t: (1 + (s - t).exp()).log()),
    "Jensen-Shannon": (f_gan(divergences.JensenShannon()), lambda s, t: -math.log(2) - (-s).sigmoid().log()),
    "KL": (f_gan(divergences.KullbackLeibler()), lambda s, t: s - 2),
    "reverse KL": (f_gan(divergences.ReverseKullbackLeibler()), lambda s, t: s.exp()),
    "Neyman": (f_gan(divergences.Neyman()), lambda s, t: s.exp() - 1),
    "GAN, saturating": (f_gan(divergences.GAN(), "saturating"), lambda s, t: s.sigmoid().log()),
    "KL, saturating": (f_gan(divergences.KullbackLeibler(), "saturating"), lambda s, t: -(1 - s).exp()),
    "Pearson, saturating": (f_gan(divergences.Pearson(), "saturating"), lambda s, t: s - s.square() / 4),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_the_encoder_loss_equals_its_formula(name: str) -> None:
    objective, formula = BY_HAND[name]
    encoder_game = game(objective)
    s, t = S([0.3, -1.2, 2.0], requires_grad=True), S([-0.5, 0.8, 0.1])
    round = Round(s, t, lambda score: CriticOutput(score))
    loss = encoder_game.adversarial("encoder", round, objective)
    expected = formula(s, t).mean()
    torch.testing.assert_close(loss, expected)
    gradients = [torch.autograd.grad(each, s)[0] for each in (loss, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("loss", choices("loss"))
@pytest.mark.slow
def test_every_loss_trains_the_encoder_against_the_discriminator(loss: str, tmp_path: Path) -> None:
    """Where D has just begun, E makes real pairs look less real, as G makes fake ones look more so."""
    module, *_ = built(*FP32, "model=bigan", *SMALL, f"loss={loss}", folder=tmp_path)
    s, t = torch.tensor([0.1, 0.3], requires_grad=True), torch.tensor([-0.2, 0.1], requires_grad=True)
    real, fake = (
        torch.autograd.grad(
            module.game.adversarial(
                player,
                Round(s, t, lambda score: CriticOutput(score, features=score[:, None])),
                module.game.loss.objective,
            ),
            scores,
        )[0]
        for player, scores in (("encoder", s), ("generator", t))
    )
    assert (real > 0).all()
    assert (fake < 0).all()


def test_for_reflecting_divergences_the_saturating_encoder_loss_is_a_part_of_the_discriminator_objective() -> None:
    s = S([0.3, -1.2, 2.0])
    round = Round(s, s, lambda score: CriticOutput(score))
    for divergence in (divergences.GAN(), divergences.JensenShannon(), divergences.SquaredHellinger()):
        objective = f_gan(divergence, "saturating")
        loss = game(objective).adversarial("encoder", round, objective)
        torch.testing.assert_close(loss, divergence.activation(s).mean())


def test_encoder_round_swaps_real_and_fake_and_reflects_the_scores() -> None:
    calls: list[Tensor] = []

    def critic(x: Tensor) -> CriticOutput:
        calls.append(x)
        return CriticOutput(x, features=x)

    round = Round(S([1.0]), S([5.0]), critic, {"a": S([1])}, {"b": S([2])})
    mirror = EncoderRound(round, 2.0)
    assert mirror.on_real.score.item() == 4 - 5
    assert len(calls) == 1  # lazily
    assert mirror.on_fake.score.item() == 4 - 1
    assert mirror.on_fake.features is round.on_real.features
    assert len(calls) == 2  # the critic outputs are the round's own
    assert (mirror.batch, mirror.fake_inputs) == (round.fake_inputs, round.batch)


def test_generator_and_encoder_have_ema_weights(tmp_path: Path) -> None:
    module, *_ = built("model=bigan", *SMALL, folder=tmp_path)
    assert set(module.ema) == {"generator", "encoder"}
    alone, *_ = built("model=bigan", *SMALL, "optim.ema.of=[generator]", folder=tmp_path)
    assert set(alone.ema) == {"generator"}
    none, *_ = built("model=bigan", *SMALL, "optim.ema=null", folder=tmp_path)
    assert not none.ema


def test_the_discriminator_scores_pairs() -> None:
    bidirectional = game(objectives.NonSaturating())
    x = torch.randn(3, 1, 2, 2)
    (round,) = bidirectional.play({"image": x})
    z = round.fake_inputs["latent"]
    assert round.real.shape == round.fake.shape == (3, 4 + 2)
    torch.testing.assert_close(round.on_real.score, bidirectional.discriminator(x, bidirectional.encoder(x)).score)
    torch.testing.assert_close(round.on_fake.score, bidirectional.discriminator(bidirectional.generator(z), z).score)
    assert bidirectional.diagnostics([round], "discriminator").keys() == {
        "D(x)",
        "D(G(z))",
        "accuracy/real",
        "accuracy/fake",
    }


def test_penalties_act_on_pairs_and_noise_on_their_images() -> None:
    bidirectional = game(objectives.NonSaturating())
    (round,) = bidirectional.play({"image": torch.randn(3, 1, 2, 2)})
    squared_norm = 1 + 4 + 1 + 0.25 + 9 + 4  # of `Score`, in x and in z
    for at in ("real", "fake", "between"):
        assert GradientPenalty(at, weight=1.0).measure(round).item() == pytest.approx(squared_norm)  # type: ignore[arg-type]
    (noisy,) = bidirectional.play({"image": torch.randn(20_000, 1, 2, 2)})
    noisy.critic = noisy.critic.changed(augment=Noise(0.5))
    spread = (noisy.critic(noisy.fake).score - bidirectional.discriminator(*_parts(noisy.fake)).score).std()
    assert spread.item() == pytest.approx(0.5 * math.sqrt(1 + 4 + 1 + 0.25), rel=0.02)


def _parts(rows: Tensor) -> tuple[Tensor, Tensor]:
    return rows[:, :4].unflatten(1, (1, 2, 2)), rows[:, 4:]


def test_each_player_step_changes_only_that_player(fit: Fit) -> None:
    module, _ = fit("model=bigan", *SMALL, "data.batch_size=8", "max_images=8")
    batch = {"image": torch.rand(8, 1, 16, 16) * 2 - 1}
    for name in module.players:
        before = {key: value.clone() for key, value in module.game.named_parameters()}
        module.player_step(name, module.players[name], module.optimizers()[[*module.players].index(name)], batch)
        changed = {
            key.split(".")[0] for key, value in module.game.named_parameters() if not torch.equal(value, before[key])
        }
        assert changed == {name}


@pytest.mark.slow
def test_the_encoder_learns_to_invert_the_generator() -> None:
    """Theorem 2, on points of the plane: G(E(x)) is much nearer to x than to another point."""
    torch.manual_seed(0)
    penalties = {at: GradientPenalty(at, weight=0.05) for at in ("real", "fake")}  # type: ignore[arg-type]
    networks = bigan.Generator(2, 2, 1, (64, 64)), bigan.Encoder(2, 2, 1, (64, 64), low=-1.0, high=1.0)
    critic = bigan.Discriminator(2, 2, 1, (64, 64), norm="none")
    bidirectional = Bidirectional(
        *networks, critic, Uniform(2), Loss("it", objectives.NonSaturating(), penalties=penalties)
    )
    adams = {
        name: torch.optim.Adam(bidirectional.get_submodule(name).parameters(), lr=1e-3, betas=(0.5, 0.999))
        for name in ("discriminator", "generator", "encoder")
    }
    for iteration in range(350):
        x = torch.rand(128, 2, 1, 1) * 1.6 - 0.8
        for name, adam in adams.items():
            losses, _ = bidirectional.player_losses(name, {"image": x}, iteration)
            adam.zero_grad()
            torch.stack([*losses.values()]).sum().backward()
            adam.step()
    with torch.no_grad():
        again = bidirectional.eval().generator(bidirectional.encoder(x))
    assert (again - x).square().mean() < 0.5 * (again - x.roll(1, 0)).square().mean()


@pytest.mark.parametrize("size", [16, 28, (32, 64)])
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.slow
def test_networks_return_the_documented_shapes(size, channels: int) -> None:
    shape = (channels, *((size, size) if isinstance(size, int) else size))
    x, z = torch.randn(2, *shape), torch.randn(2, 6)
    for family in (bigan, ali):
        assert family.Generator(6, channels, size)(z).shape == x.shape
        encoder = family.Encoder(6, channels, size)
        assert encoder(x).shape == z.shape
        assert encoder.features(x).dim() == 2
        assert family.Discriminator(6, channels, size)(x, z).score.shape == (2,)


def test_bigan_has_the_layers_of_its_code() -> None:
    def widths(network: nn.Module) -> list[tuple[int, ...]]:
        return [tuple(w.shape) for w in network.parameters()]

    generator, encoder = bigan.Generator(50, 1, 28), bigan.Encoder(50, 1, 28, low=-1, high=1)
    assert widths(generator) == [(1024, 50), (1024, 1024 + 50), (784, 1024)]  # no bias, no gain
    assert widths(encoder) == [(1024, 784), (1024, 1024), (50, 1024)]
    discriminator = bigan.Discriminator(50, 1, 28)
    assert widths(discriminator) == [(1024, 784), (1024, 1024 + 50), (1, 1024)]
    counts = [sum(isinstance(m, nn.BatchNorm1d) for m in n.modules()) for n in (generator, encoder, discriminator)]
    assert counts == [2, 1, 1]
    assert encoder(100 * torch.randn(9, 1, 28, 28)).abs().max() <= 1  # as the prior is bounded


@pytest.mark.slow
def test_the_pair_critic_has_no_batchnorm_where_the_loss_forbids_it(tmp_path: Path) -> None:
    for model in ("bigan", "ali"):
        for loss in ("wasserstein_gp", "relativistic"):
            module, *_ = built(*FP32, f"model={model}", f"loss={loss}", folder=tmp_path)
            kinds = [type(m).__name__ for m in module.game.discriminator.modules()]
            assert not [kind for kind in kinds if "BatchNorm" in kind]


def test_the_ali_encoder_samples_by_reparametrisation_and_returns_its_mean_in_eval_mode() -> None:
    torch.manual_seed(0)
    encoder = ali.Encoder(3, 1, 16, width=2, hidden=8)
    x = torch.randn(1, 1, 16, 16)
    encoder.eval()
    mean, log_variance = encoder.gaussian(encoder.features(x)).chunk(2, 1)
    assert torch.equal(encoder(x), mean)
    with torch.no_grad():
        encoder.gaussian.bias[3:] += torch.tensor([0.0, 1.0, -2.0])
    encoder.training = True  # its layers stay in eval mode
    drawn = encoder(x.expand(4000, -1, -1, -1))
    sd = ((log_variance[0] + torch.tensor([0.0, 1.0, -2.0])) / 2).exp()
    torch.testing.assert_close(drawn.std(0), sd, rtol=0.05, atol=0)
    torch.testing.assert_close(drawn.mean(0), mean[0], rtol=0, atol=0.1)
    drawn.sum().backward()
    assert encoder.gaussian.weight.grad[3:].abs().sum() > 0  # the gradient goes through the draw


@pytest.mark.parametrize("optim", choices("optim"))
@pytest.mark.slow
def test_the_encoder_has_the_generators_optimizer_with_every_optim(optim: str, fit: Fit) -> None:
    module, _ = fit("model=bigan", *SMALL, f"optim={optim}", "data.batch_size=8", "max_images=8")
    generator, encoder = (module.players[name] for name in ("generator", "encoder"))
    for number in ("lr", "every", "clip", "unrolled"):
        assert getattr(generator, number) == getattr(encoder, number)
    one, two = (player.build([*nn.Linear(1, 1).named_parameters()]) for player in (generator, encoder))
    assert type(one) is type(two)
    assert one.defaults == two.defaults
    assert [*module.players] == ["discriminator", "generator", "encoder"]


@pytest.mark.slow
def test_the_encoder_is_unrolled_with_the_generator(fit: Fit) -> None:
    module, _ = fit("model=bigan", *SMALL, "optim.generator.unrolled=2", "data.batch_size=8", "max_images=16")
    assert module.players["encoder"].unrolled == 2
    assert all(torch.isfinite(weight).all() for weight in module.parameters())


@pytest.mark.parametrize("model", ["bigan", "ali"])
@pytest.mark.slow
def test_the_command_line_overrides_what_the_encoder_takes_from_the_generator(model: str, tmp_path: Path) -> None:
    options = [f"model={model}", "loss=hinge", "optim=wgan_gp", "optim.encoder.lr=1e-5", "optim.encoder.clip=2",
               "optim.generator.every=3", "optim.generator.optimizer.betas=[0.3,0.9]",
               "+optim.encoder.schedules.lr={_target_: oakleaf.optim.schedules.Cosine, to: 0, over: 9}"]  # fmt: skip
    module, *_ = built(*FP32, *options, folder=tmp_path)
    assert isinstance(module.game.loss.objective, objectives.Hinge)
    generator, encoder = (module.players[name] for name in ("generator", "encoder"))
    assert (encoder.lr, encoder.clip, encoder.every, [*encoder.schedules]) == (1e-5, 2.0, 3, ["lr"])
    assert (generator.lr, generator.clip, [*generator.schedules]) == (1e-4, None, [])
    assert encoder.build([*nn.Linear(1, 1).named_parameters()]).defaults["betas"] == (0.3, 0.9)
    replacement = "optim.encoder.optimizer={_target_: torch.optim.SGD, _partial_: true, momentum: 0.1}"
    module, *_ = built(*FP32, f"model={model}", replacement, folder=tmp_path)
    assert isinstance(module.players["encoder"].build([*nn.Linear(1, 1).named_parameters()]), torch.optim.SGD)
    with pytest.raises(ConfigCompositionException):  # said, not lost
        composed(f"model={model}", "optim.encoder.optimizer.betas=[0.3,0.9]", folder=tmp_path)


def test_the_experiments_schedule_shortens_with_its_epochs() -> None:
    for epochs in (400, 40):
        config = composed("experiment=bigan_mnist", f"data.epochs={epochs}", folder="x")
        assert config.trainer.max_epochs == epochs
        for player in ("discriminator", "generator", "encoder"):
            described = dict(config.optim[player].schedules.lr)
            described.pop("_target_")
            rate, run = Exponential(**described), 60_000 * epochs
            assert rate(2e-4, run // 2) == 2e-4
            assert rate(2e-4, run) == pytest.approx(2e-6, rel=1e-4)
            assert rate(2e-4, run * 3 // 4) == pytest.approx(2e-5, rel=1e-4)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bigan")
    result = quick("train", *TINY, folder=folder)
    assert result.returncode == 0, result.stderr
    return next(iter((folder / "outputs" / "bigan-digits").iterdir()))


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gan")
    result = quick("train", *NARROW, *TINY[len(SMALL) + 1 :], folder=folder)
    assert result.returncode == 0, result.stderr
    return next(iter((folder / "outputs" / "dcgan-digits").iterdir()))


@pytest.mark.slow
def test_reconstructions_are_stored_after_their_originals(run: Path, tmp_path: Path) -> None:
    result = quick("sample", f"checkpoint={run}", "mode=reconstruct", "count=8", "seed=3", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    stored = np.load(tmp_path / "samples" / "samples.npy")
    assert stored.shape == (16, 16, 16, 1)
    module = load(run)
    x = torch.from_numpy(stored[0::2]).permute(0, 3, 1, 2).float() / 127.5 - 1
    with module.ema_scope() as ema_game:
        again = ema_game.generator(ema_game.encoder(x))
    expected = again.add(1).mul(127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(stored[1::2].astype(int), expected.astype(int), atol=1)
    assert len({image.tobytes() for image in stored[0::2]}) == 8
    other = quick("sample", f"checkpoint={run}", "mode=reconstruct", "count=8", "out=other", folder=tmp_path)
    assert other.returncode == 0
    assert not np.array_equal(np.load(tmp_path / "other" / "samples.npy")[0::2], stored[0::2])  # another seed


@pytest.mark.slow
def test_originals_and_reconstructions_are_in_neighbouring_columns(run: Path) -> None:
    for count in (1, 2, 8, 64):
        mode, module = Reconstruct(count), load(run)
        mode.set_data(lambda: InMemory({"image": torch.zeros(99, 1, 16, 16, dtype=torch.uint8)}))
        request, columns = mode(module.game, 0)
        assert len(request["latent"]) == count
        assert columns is not None
        assert columns % 2 == 0


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["split=test"], "data=digits has no splits"),
        (["root=elsewhere", "checkpoint=mnist.ckpt"], "elsewhere"),
    ],
)
@pytest.mark.slow
def test_missing_images_are_an_error_of_one_sentence(
    run: Path, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    source = {"_target_": "oakleaf.data.sources.torchvision_set", "_partial_": True, "name": "MNIST", "split": "train"}
    content["hyper_parameters"]["data"]["source"] = source
    torch.save(content, tmp_path / "mnist.ckpt")
    result = quick("sample", f"checkpoint={run}", "mode=reconstruct", *arguments, folder=tmp_path)
    assert result.returncode == 1
    assert reason in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_an_encoder_is_required_where_one_is_needed(without: Path, tmp_path: Path) -> None:
    result = quick("sample", f"checkpoint={without}", "mode=reconstruct", folder=tmp_path)
    assert result.returncode == 1
    assert "mode=reconstruct: nothing" in result.stderr
    result = quick("evaluate", f"checkpoint={without}", "metric=encoder_one_nn", "fake=50", folder=tmp_path)
    assert "needs a game with an encoder" in result.stdout + result.stderr


@pytest.mark.slow
def test_one_nn_of_the_encoder_is_that_of_scikit_learn(run: Path, tmp_path: Path) -> None:
    """The accuracies are equal, image by image, if both use the EMA weights of the encoder, as `evaluate` does.

    The encoder of this short run is far from its moving average: with the live weights two of 299 test images have
    neighbours of other classes. scikit-learn computes distances in float64 here; the features' gaps between the two
    nearest classes are far above the rounding of float32, which the test asserts, so no tie can make a difference.
    """
    from sklearn.neighbors import KNeighborsClassifier

    result = quick(
        "evaluate", f"checkpoint={run}", "metric=encoder_one_nn", "fake=50", f"out={tmp_path}", folder=tmp_path
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (entry,) = json.loads((tmp_path / "metrics.json").read_text())
    module = load(run)
    rows = real_data(read_checkpoint(run), None, None)[0].rows
    order, sixth = shuffled(1797).flip(0), 1797 // 6
    test, training = order[sixth : 2 * sixth], order[2 * sixth :]
    assert (entry["protocol"]["test"], entry["protocol"]["references"]) == (len(test), len(training))
    pixels = rows["image"].float() / 127.5 - 1
    with module.ema_scope() as game:
        features = game.encoder.features(pixels)
    for x, found in ((features, entry["value"]), (pixels.flatten(1), entry["baseline"])):
        x = x.double().numpy()
        by_class = [
            KNeighborsClassifier(1).fit(x[rows_of_class], np.zeros(len(rows_of_class))).kneighbors(x[test])[0]
            for rows_of_class in (training[rows["label"][training] == c] for c in range(10))
        ]
        nearest, second = np.sort(np.hstack(by_class))[:, :2].T
        assert (second - nearest).min() > 1e-6 * nearest.mean()
        neighbour = KNeighborsClassifier(1).fit(x[training], rows["label"][training].numpy())
        expected = neighbour.score(x[test], rows["label"][test].numpy())
        assert found == pytest.approx(expected, abs=1e-7)
    assert entry["protocol"]["baseline"] == "the same accuracy in raw pixels"


def test_with_a_test_split_all_training_images_are_references() -> None:
    def data(count: int, shift: float) -> object:
        label = torch.arange(count) % 3
        image = (label * 60 + shift)[:, None, None, None].expand(-1, 1, 2, 2).to(torch.uint8)
        values = {"image": image, "label": label}

        class Data(Points):
            def __init__(self) -> None:  # nothing but the rows
                self.rows, self.classes = values, ["a", "b", "c"]

        return Data()

    class Module(nn.Module):
        device = torch.device("cpu")

        def __init__(self) -> None:
            super().__init__()
            self.game = nn.Module()
            self.game.encoder = Flat()
            self.game.encoder.features = lambda x: x.flatten(1)  # type: ignore[assignment]

        def ema_scope(self, ema: bool) -> object:
            return nullcontext(self.game)

    evaluation = EvaluationData(Module(), data(60, 0), Pixels(), 10, 60, test=lambda: data(9, 5))  # type: ignore[arg-type, return-value]
    measure = EncoderOneNN()
    measure.prepare(evaluation)
    assert len(measure.training) == 60
    assert measure.split == "test"
    assert measure(None, None) == {"encoder_one_nn": 1.0}  # type: ignore[arg-type]
    assert measure.baseline(evaluation) == {"encoder_one_nn": 1.0}


def test_games_without_an_encoder_have_no_encoder_player() -> None:
    assert "encoder" not in composed("model=dcgan", folder="x").optim
    assert not hasattr(Game, "encoder")
    assert torch.equal(pairs(torch.ones(2, 1, 1, 1), torch.zeros(2, 3)), torch.tensor([[1.0, 0, 0, 0]] * 2))
    with pytest.raises(UserError):
        Reconstruct()(nn.Module(), 0)  # type: ignore[arg-type]
    torch.testing.assert_close(softplus(S([0.5])), -logsigmoid(S([-0.5])))
