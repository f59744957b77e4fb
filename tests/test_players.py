"""Roles, further critics, outputs, terms with state, micro-batches, groups of parameters, schedules of any number."""

import ast
import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, relu, softplus
from torch.nn.utils.parametrizations import spectral_norm

from helpers.composing import FP32, ROOT, SMALL
from helpers.training import Fit, built
from oakleaf.builder.load import load
from oakleaf.conditioning.priors import Normal
from oakleaf.errors import UserError
from oakleaf.games import Generation
from oakleaf.games.critics import FurtherCritic
from oakleaf.gan import GAN, micro_batches
from oakleaf.losses.loss import Loss
from oakleaf.losses.objectives import Hinge, Minimax, NonSaturating
from oakleaf.losses.penalties import GradientPenalty
from oakleaf.losses.terms import Term
from oakleaf.optim.ema import EMA, AveragedNetwork
from oakleaf.optim.optimizers import adam
from oakleaf.optim.player import Player
from oakleaf.optim.scheduled import ScheduledNumber, scheduled_numbers
from oakleaf.optim.schedules import Linear
from oakleaf.round import CriticOutput, GeneratorOutput, Round, is_per_sample
from oakleaf.runtime.seeds import derive_seed

TWO_CRITICS = [
    "+model.critics.blurred._target_=oakleaf.games.critics.FurtherCritic",
    "+model.critics.blurred.network=${model.game.discriminator}",
    "+model.critics.blurred.weight=0.5",
    "+model.critics.blurred.transform={_target_: torch.nn.AvgPool2d, kernel_size: 3, stride: 1, padding: 1}",
    "+model.critics.blurred.loss={_target_: oakleaf.losses.loss.Loss, name: hinge, "
    "objective: {_target_: oakleaf.losses.objectives.Hinge}, "
    "penalties: {r1: {_target_: oakleaf.losses.penalties.GradientPenalty, at: real, weight: 2.0}}}",
    "+optim.blurred={_target_: oakleaf.optim.player.Player, role: critic, lr: 1e-3, every: 2, "
    "optimizer: ${optim.discriminator.optimizer}}",
]


def rows(data, iteration: int, size: int) -> Tensor:
    """Return the images of one iteration in [-1, 1]."""
    sampler = data.sampler(0, 1)
    batches = sampler.batches(0)
    for _ in range(iteration):
        next(batches)
    return data.rows["image"][next(batches)[0]].float() / 127.5 - 1


@pytest.mark.slow
def test_two_critics_equal_a_loop_written_by_hand(tmp_path: Path) -> None:
    """The second critic sees blurred images, and has its own loss, penalty, optimizer and `every`."""
    iterations, size = 6, 16
    overrides = [*FP32, *SMALL, "model.game.discriminator.norm=none", *TWO_CRITICS, f"max_images={iterations * size}"]
    module, data, trainer, _ = built(*overrides, folder=tmp_path)
    assert list(module.players) == ["discriminator", "generator", "blurred"]
    names = ("generator", "discriminator", "blurred")
    generator, first, second = (copy.deepcopy(module.network(name)) for name in names)
    trainer.fit(module, datamodule=data)

    optimizers = [torch.optim.Adam(network.parameters(), lr=lr, betas=(0.5, 0.999)) for network, lr in
                  ((first, 2e-4), (generator, 2e-4), (second, 1e-3))]  # fmt: skip
    latents = lambda: torch.rand(size, 100) * 2 - 1  # noqa: E731
    blur = partial(avg_pool2d, kernel_size=3, stride=1, padding=1)

    def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for iteration in range(iterations):
        real = rows(data, iteration, size)
        torch.manual_seed(derive_seed(0, iteration, 0))
        fake = generator(latents()).detach()
        step(optimizers[0], (softplus(-first(real).score) + softplus(first(fake).score)).mean())
        fake = generator(latents())
        step(optimizers[1], softplus(-first(fake).score).mean() - 0.5 * second(blur(fake)).score.mean())
        if iteration % 2 == 1:
            fake, x = generator(latents()).detach(), real.clone().requires_grad_()
            on_real = second(blur(x)).score
            (gradient,) = torch.autograd.grad(on_real.sum(), x, create_graph=True)
            hinge = relu(1 - on_real).mean() + relu(1 + second(blur(fake)).score).mean()
            step(optimizers[2], hinge + 2 * gradient.square().flatten(1).sum(1).mean())

    for name, network in zip(names, (generator, first, second)):
        differences = [(a - b).abs().max() for a, b in zip(module.network(name).parameters(), network.parameters())]
        assert max(differences) < 1e-6, name
    row = module.last_scalars or module.running_means.pop()
    assert {"loss/blurred/r1", "loss/generator/adversarial_blurred", "blurred/score/real", "D(x)"} <= row.keys()


def test_no_code_branches_on_the_name_of_a_player() -> None:
    """Neither gan.py nor a game compares anything with a player's name; the roles of a game are a table."""
    names = {"discriminator", "generator", "encoder"}
    found = []
    for path in [ROOT / "src/oakleaf/gan.py", *sorted((ROOT / "src/oakleaf/games").glob("*.py"))]:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare):
                parts = [node.left, *node.comparators]
                for comparison in parts:
                    literals = {n.value for n in ast.walk(comparison) if isinstance(n, ast.Constant)} & names
                    compared_with_role = any("role" in ast.unparse(part) for part in parts)
                    if literals and not compared_with_role:
                        found.append(f"{path.name}:{node.lineno}")
    assert not found


def test_no_function_of_a_step_is_longer_than_30_lines() -> None:
    for name in ("gan.py", "round.py", "games/game.py", "optim/player.py", "optim/ema.py"):
        for node in ast.walk(ast.parse((ROOT / "src/oakleaf" / name).read_text())):
            if isinstance(node, ast.FunctionDef) and node.name != "__init__":
                first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0].lineno
                assert node.end_lineno and node.end_lineno - first < 30, f"{name}: {node.name}"


class PlainCritic(nn.Module):
    """Return a tensor [B, 1] of scores."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1))


class StyleGenerator(nn.Module):
    """Return images and the vector w that they were made from."""

    def __init__(self) -> None:
        super().__init__()
        self.mapping, self.linear = nn.Linear(2, 3), nn.Linear(3, 4)

    def forward(self, z: Tensor) -> GeneratorOutput:
        w = self.mapping(z)
        return GeneratorOutput(self.linear(w).view(-1, 1, 2, 2), {"w": w})


class MeanW(Term):
    """Pull w towards its running mean, by a learned projection; a term with a state and a network."""

    mean: Tensor

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.projection = nn.Linear(3, 2)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("last", torch.zeros(3))

    def measure(self, round: Round) -> Tensor:
        w = round.extras["w"]
        self.last.copy_(w.detach().mean(0))
        assert set(round.networks) == {"discriminator", "generator"}
        return self.projection(w - self.mean).square().mean()

    def update_state(self) -> None:
        self.mean.lerp_(self.last, 0.5)


def small_game(term: Term | None = None) -> Generation:
    terms = {"generator": {"mean_w": term}} if term else None
    return Generation(StyleGenerator(), PlainCritic(), Normal(2), Loss("gan", NonSaturating()), terms)


def test_a_critic_may_return_a_tensor_and_a_generator_more_than_an_image() -> None:
    game = small_game()
    (round,) = game.play({"image": torch.randn(5, 1, 2, 2)})
    assert round.on_real.score.shape == round.on_fake.score.shape == (5,)
    torch.testing.assert_close(round.on_fake.score, game.discriminator(round.fake).squeeze(1))
    torch.testing.assert_close(round.extras["w"], game.generator.mapping(round.fake_inputs["latent"]))
    assert game.generate({"latent": torch.randn(3, 2)}).shape == (3, 1, 2, 2)
    assert not is_per_sample(game.discriminator)  # it did not say so


def test_a_term_has_a_state_and_parameters_that_its_player_trains() -> None:
    term = MeanW()
    players = {
        "discriminator": Player(adam, lr=0.1, role="critic"),
        "generator": Player(adam, lr=0.1, role="generator"),
    }
    module = GAN(small_game(term), players)
    assert "game.terms.generator.mean_w.mean" in module.state_dict()
    trained = dict(module.trained["generator"])
    assert "terms.mean_w.projection.weight" in trained
    _, generator = module.configure_optimizers()
    assert any(p is term.projection.weight for p in generator.param_groups[0]["params"])
    losses, _ = module.game.player_losses("generator", {"image": torch.randn(4, 1, 2, 2)}, 1)
    assert losses["mean_w"].item() > 0
    last = term.last.clone()
    module.game.update_state()
    torch.testing.assert_close(term.mean, last / 2)


def test_the_state_of_terms_keeps_its_precision() -> None:
    term = MeanW().to(torch.bfloat16)
    assert term.mean.dtype == torch.float32
    assert term.projection.weight.dtype == torch.bfloat16


def test_an_objective_around_another_keeps_the_inner_state() -> None:
    from oakleaf.losses.energy import Equilibrium

    assert "objective.of.k" in Loss("minimax", Minimax(Equilibrium())).state_dict()


def test_micro_batches_divide_a_batch() -> None:
    batch = {"image": torch.arange(10), "label": torch.arange(10) * 2}
    parts = list(micro_batches(batch, 4))
    assert [len(part["image"]) for part, _ in parts] == [2, 3, 2, 3]
    assert sum(share for _, share in parts) == pytest.approx(1)
    assert torch.equal(torch.cat([part["label"] for part, _ in parts]), batch["label"])
    assert len(list(micro_batches(batch, 40))) == 10


@pytest.mark.slow
def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    found = []
    for accumulate in (1, 3):
        options = ["model.game.discriminator.norm=none", f"optim.discriminator.accumulate={accumulate}"]
        module, data, _, _ = built(*FP32, *SMALL, "loss=wasserstein", *options, folder=tmp_path / str(accumulate))
        data.prepare_data()
        data.setup()
        module.game.train()
        batch = data.batch(torch.arange(16))
        drawn = FixedFakes(torch.Generator().manual_seed(0))
        module.game.run_generator = drawn
        _, _, gradients = module._losses_and_gradients("discriminator", module.players["discriminator"], batch)
        assert drawn.calls == accumulate
        found.append(torch.cat([gradient.flatten() for gradient in gradients]))
    assert found[0].norm() > 0
    torch.testing.assert_close(*found, rtol=0, atol=1e-6)


class FixedFakes:
    """A generator whose images follow one after the other, so that micro-batches get the images of the whole batch."""

    def __init__(self, random: torch.Generator) -> None:
        self.random, self.calls = random, 0

    def __call__(self, inputs: dict[str, Tensor]) -> GeneratorOutput:
        self.calls += 1
        return GeneratorOutput(torch.stack([torch.randn(1, 16, 16, generator=self.random) for _ in inputs["latent"]]))


def test_groups_of_parameters_have_numbers_of_their_own() -> None:
    network = StyleGenerator()
    player = Player(
        partial(adam, betas=(0.0, 0.99)),
        lr=1e-3,
        role="generator",
        param_groups={"mapping": {"parameters": "mapping.*", "lr": 1e-5}},
        freeze=["linear.bias"],
        schedules={"lr": Linear(to=0.0, over=100), "beta2": Linear(to=0.9, over=100)},
    )
    trained = player.trained(network.named_parameters())
    assert [name for name, _ in trained] == ["mapping.weight", "mapping.bias", "linear.weight"]
    optimizer = player.build(trained)
    rest, mapping = optimizer.param_groups
    assert [p is q for p, q in zip(mapping["params"], network.mapping.parameters())] == [True, True]
    assert (rest["lr"], mapping["lr"]) == (1e-3, 1e-5)
    player.apply_schedule(optimizer, 50)
    assert (rest["lr"], mapping["lr"]) == pytest.approx((5e-4, 5e-6))
    assert rest["betas"] == mapping["betas"] == pytest.approx((0.0, 0.945))
    rest["lr"] = mapping["lr"] = 7.0  # as a checkpoint of another configuration would have it
    player.set_numbers(optimizer, 0)
    assert (rest["lr"], mapping["lr"]) == (1e-3, 1e-5)
    for wrong in ({"freeze": ["none.*"]}, {"param_groups": {"x": {"parameters": "none.*", "lr": 1.0}}}):
        with pytest.raises(UserError, match=r"no parameter fits `none\.\*`"):
            bad = Player(adam, lr=1e-3, role="generator", **wrong)
            bad.build(bad.trained(network.named_parameters()))
    with pytest.raises(UserError, match="leaves no parameter"):
        Player(adam, lr=1e-3, role="generator", freeze=["*"]).trained(network.named_parameters())


def test_a_frozen_parameter_is_not_changed(fit: Fit) -> None:
    module, _ = fit(*SMALL, "optim.discriminator.freeze=[stages.0.*]", "max_images=32")
    names = [name for name, _ in module.trained["discriminator"]]
    everything = [name for name, _ in module.network("discriminator").named_parameters()]
    assert set(everything) - set(names) == {name for name in everything if name.startswith("stages.0.")} != set()


def test_any_number_of_a_recipe_follows_a_schedule(fit: Fit) -> None:
    penalty, decay = "+schedules.loss.penalties.r1.weight", "+schedules.optim.ema.half_life"
    linear = "{_target_: oakleaf.optim.schedules.Linear, to: 0.0, over: 64}"
    module, _ = fit(*SMALL, "loss=relativistic", f"{penalty}={linear}", f"{decay}={linear}", "max_images=48")
    r1 = module.game.loss.penalties["r1"]
    assert r1.weight.item() == pytest.approx(0.5 * (1 - 32 / 64))  # in the third iteration, after 32 images
    assert "loss.penalties.r1.weight" not in module.game.state_dict()
    assert next(iter(module.ema.values())).ema.half_life == pytest.approx(10_000 * (1 - 32 / 64))


@pytest.mark.parametrize("path", ["loss.penalties.r7.weight", "loss.penalties.r1.wait", "loss.penalties.r1.at"])
def test_a_schedule_of_no_number_is_refused(path: str) -> None:
    tree: dict = {}
    node = tree
    *keys, last = path.split(".")
    for key in keys:
        node = node.setdefault(key, {})
    node[last] = Linear(to=0.0, over=1)
    roots = {"loss": Loss("r", Hinge(), penalties={"r1": GradientPenalty("real", 1.0)})}
    with pytest.raises(UserError, match=f"schedules.{path.rsplit('.', 1)[0]}".replace(".", r"\.")):
        list(scheduled_numbers(tree, roots))


def test_a_scheduled_number_of_a_plain_object_is_set() -> None:
    ema = EMA(half_life=100)
    ScheduledNumber(ema, "half_life", Linear(to=0, over=10), "optim.ema.half_life").set(5)
    assert ema.half_life == pytest.approx(50)


def test_the_average_keeps_the_power_iteration_of_spectral_norm() -> None:
    """The vectors are those of the network. Averaged, they would give a far smaller sigma of the averaged weight."""
    torch.manual_seed(0)
    network = spectral_norm(nn.Linear(128, 64, bias=False))
    average = AveragedNetwork(network, EMA(half_life=693, ramp=0))
    live, kept = network.parametrizations.weight, average.network.parametrizations.weight
    u, v = live[0]._u.clone(), live[0]._v.clone()
    for _ in range(1000):
        with torch.no_grad():
            live.original.add_(0.005 * torch.randn(64, 128))
        network(torch.zeros(1, 128))
        average.update(network, 1, 1)
        u.lerp_(live[0]._u, 0.001)
        v.lerp_(live[0]._v, 0.001)
    assert torch.equal(kept[0]._u, live[0]._u)
    assert torch.equal(kept[0]._v, live[0]._v)
    true = torch.linalg.matrix_norm(kept.original, 2)
    by_copies, by_averages = (left @ kept.original @ right for left, right in ((live[0]._u, live[0]._v), (u, v)))
    assert (kept.original / average.network.weight).mean().item() == pytest.approx(by_copies.item(), rel=1e-4)
    assert by_averages < 0.5 * true < 0.75 * true < by_copies


def test_a_delayed_average_is_the_network_until_it_starts() -> None:
    network = nn.Linear(2, 2)
    average = AveragedNetwork(network, EMA(half_life=10, ramp=0, start=100))
    for images, equal in ((50, True), (100, True), (150, False)):
        nn.init.normal_(network.weight)
        average.update(network, images, 10)
        assert torch.equal(average.network.weight, network.weight) is equal


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+optim.mine=${optim.discriminator}"], "optim.mine: model.game has no network of this name"),
        (["+optim.discriminator.unrolled=1"], "only another player can unroll a critic's steps"),
        (["optim.discriminator.role=judge"], "optim.discriminator.role=judge"),
        ([o.replace("blurred", "loss") for o in TWO_CRITICS[:3]], "model.critics.loss: the game has something"),
    ],
)
def test_wrong_players_are_refused_with_one_sentence(overrides: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        built(*FP32, *SMALL, *overrides, folder=tmp_path)


@pytest.mark.slow
def test_two_critics_resume_bit_for_bit_and_are_loaded(fit: Fit, tmp_path: Path) -> None:
    run = [*SMALL, *TWO_CRITICS, "augment=noise"]
    whole, _ = fit(*run, "max_images=96", "callbacks.checkpoint.keep_every=48", folder=tmp_path / "a")
    checkpoint = tmp_path / "a" / "checkpoints" / f"{48:012d}.ckpt"
    again, _ = fit(*run, "max_images=96", checkpoint=checkpoint, folder=tmp_path / "b")
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values()))
    assert list(load(checkpoint).players) == ["discriminator", "generator", "blurred"]


def test_every_game_accepts_a_further_critic_or_says_why_not(tmp_path: Path) -> None:
    game = small_game()
    game.attach({"second": FurtherCritic(PlainCritic())})
    batch = {"image": torch.randn(4, 1, 2, 2)}
    losses, _ = game.player_losses("second", batch, 1)
    assert losses.keys() == {"adversarial"}
    assert game.player_losses("generator", batch, 1)[0].keys() == {"adversarial", "adversarial_second"}
    assert isinstance(game.play(batch)[0].on_real, CriticOutput)
