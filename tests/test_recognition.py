"""Terms that read frozen networks, and the tasks that such networks learn, against hand-written computations."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, softplus

from helpers.frozen import Fixed, ready
from oakleaf.conditioning.code import Code
from oakleaf.errors import UserError
from oakleaf.frozen.classifier import Training, network_for, train_classifier
from oakleaf.frozen.tasks import Ages, Attributes, Cosines, Identities, Labels, age_loss, arcface_cosine, expected_age
from oakleaf.losses.recognition import Perceptual, Recognised, SameIdentity
from oakleaf.round import BoundCritic, Round


def round_of(real: Tensor, fake: Tensor, **fake_inputs: Tensor) -> Round:
    found = Round(real, fake, BoundCritic(lambda x: x.mean((1, 2, 3))), {"image": real}, fake_inputs)
    found.frozen = {"eye": ready(Fixed())}
    return found


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.rand(4, 3, 9, 9), torch.rand(4, 3, 9, 9, requires_grad=True)


@pytest.mark.parametrize("distance", ["squared", "absolute"])
def test_perceptual_is_the_mean_distance_of_each_layer(pair: tuple[Tensor, Tensor], distance: Any) -> None:
    round, layers = round_of(*pair), ["0.0", "0.3"]
    real, fake = (round.frozen["eye"](x, layers).maps for x in pair)
    power = {"squared": 2, "absolute": 1}[distance]
    by_hand = sum((fake[n] - real[n]).abs().pow(power).sum() / real[n].numel() for n in layers)
    term = Perceptual("eye", layers, distance, weight=3.0, every=2)
    torch.testing.assert_close(term(round), 6 * by_hand)
    gradients = [torch.autograd.grad(value, pair[1], retain_graph=True)[0] for value in (term(round), 6 * by_hand)]
    torch.testing.assert_close(*gradients)


def test_perceptual_with_unit_vectors(pair: tuple[Tensor, Tensor]) -> None:
    round = round_of(*pair)
    real, fake = (round.frozen["eye"](x, ["0.3"]).maps["0.3"] for x in pair)
    unit = [maps / maps.square().sum(1, keepdim=True).sqrt() for maps in (real, fake)]
    torch.testing.assert_close(Perceptual("eye", ["0.3"], unit=True)(round), (unit[0] - unit[1]).square().mean())


@pytest.mark.parametrize("compared_with", ["real", "input"])
def test_same_identity_compares_embeddings(pair: tuple[Tensor, Tensor], compared_with: Any) -> None:
    other = torch.rand(4, 3, 9, 9)
    round = round_of(*pair, input=other)
    target, found = (round.frozen["eye"](x).embedding for x in (pair[0] if compared_with == "real" else other, pair[1]))
    by_hand = {
        "cosine": 1 - cosine_similarity(found, target, dim=1).mean(),
        "squared": (found - target).square().sum(1).mean(),
        "absolute": (found - target).abs().sum(1).mean(),
    }
    for distance, value in by_hand.items():
        term = SameIdentity("eye", distance, compared_with)  # type: ignore[arg-type]
        torch.testing.assert_close(term(round), value)
    with pytest.raises(UserError, match="does not translate"):
        SameIdentity("eye", compared_with="input")(round_of(*pair))


def test_recognised_is_the_loss_of_what_was_asked_for(pair: tuple[Tensor, Tensor]) -> None:
    label, attributes, age = torch.tensor([0, 4, -1, 2]), torch.randint(0, 2, (4, 5)), torch.tensor([1, 0, -1, 4])
    round = round_of(*pair, label=label, attributes=attributes, age=age)
    logits = round.frozen["eye"](pair[1]).logits
    known = label >= 0
    torch.testing.assert_close(Recognised("eye")(round), cross_entropy(logits[known], label[known]))
    binary = torch.where(attributes == 1, softplus(-logits), softplus(logits)).mean()
    torch.testing.assert_close(Recognised("eye", "attributes")(round), binary)
    torch.testing.assert_close(Recognised("eye", "age")(round), age_loss(logits, age))
    with pytest.raises(UserError, match=r"key=sentence: .* they have label, attributes, age"):
        Recognised("eye", "sentence")(round)


def test_terms_name_what_is_missing(pair: tuple[Tensor, Tensor]) -> None:
    round = round_of(*pair)
    with pytest.raises(UserError, match=r"model\.frozen\.ear is missing.* the model has eye"):
        Perceptual("ear", ["0"])(round)
    with pytest.raises(UserError, match="layers is empty"):
        Perceptual("eye", [])
    round.frozen["eye"].embedding_layer = None  # type: ignore[assignment]
    with pytest.raises(UserError, match="has no embedding"):
        SameIdentity("eye")(round)


def test_a_code_is_the_layer_of_the_image_itself() -> None:
    code, network, images = Code("eye", 3, 9, width=6), ready(Fixed()), torch.rand(4, 3, 9, 9, requires_grad=True)
    with pytest.raises(UserError, match=r"model\.frozen\.eye is missing"):
        code({"image": images})
    code.use_frozen({"eye": network})
    y = code({"image": images})
    assert torch.equal(y, network(images).embedding) and not y.requires_grad
    assert code.encode(images).requires_grad and not list(code.parameters())
    given = torch.rand(2, 6)
    assert code({"code": given, "image": images}) is given
    layer = Code("eye", 3, 9, width=96, layer="0.3")
    layer.use_frozen({"eye": network})
    assert torch.equal(layer({"image": images}), network(images, ["0.3"]).maps["0.3"].flatten(1))
    wrong = Code("eye", 3, 9, width=7)
    wrong.use_frozen({"eye": network})
    with pytest.raises(UserError, match=r"width=7: the code has 6 numbers"):
        wrong({"image": images})
    with pytest.raises(UserError, match="from 0 on"):
        code.from_index(64, 2)


# ---- Tasks -----------------------------------------------------------------------------------------------------------


def test_the_margin_softmax_is_that_of_its_equations() -> None:
    torch.manual_seed(0)
    identity = torch.tensor([7, 7, 9, 9, 4, -1, -1])  # person 4 has one image, -1 are unknown
    features, head = torch.randn(4, 5), Cosines(5, 2)
    for kind, margin in (("arcface", 0.5), ("cosface", 0.35)):
        task = Identities(identity, margin, 20.0, kind)  # type: ignore[arg-type]
        assert task.outputs == 2 and task.rows(7).tolist() == [0, 1, 2, 3]
        _, target = task.make_batch(features, torch.arange(4))
        losses = []
        for row, own in zip(features.tolist(), target.tolist()):
            cosines = [
                sum(a * b for a, b in zip(row, w)) / math.dist(row, [0] * 5) / math.dist(w, [0] * 5)
                for w in head.weight.tolist()
            ]
            own_cosine = cosines[own]
            if kind == "arcface":
                angle = math.acos(own_cosine) + margin
                cosines[own] = math.cos(angle) if angle < math.pi else own_cosine - margin * math.sin(margin)
            else:
                cosines[own] = own_cosine - margin
            losses.append(-20 * cosines[own] + math.log(sum(math.exp(20 * cosine) for cosine in cosines)))
        assert float(task.loss(head(features), target)) == pytest.approx(sum(losses) / 4, rel=1e-4)
    with pytest.raises(UserError, match="at least two persons"):
        Identities(torch.tensor([1, 1, 2, 3]))


def test_arcface_falls_everywhere() -> None:
    cosine = torch.linspace(1, -1, 1000, dtype=torch.float64)
    shifted = arcface_cosine(cosine, 0.5)
    assert (shifted.diff() <= 1e-9).all()
    assert torch.isfinite(torch.autograd.functional.jacobian(lambda c: arcface_cosine(c, 0.5).sum(), cosine)).all()


def test_ages_are_ordinal() -> None:
    age, logits = torch.tensor([3, 0, -1, 12]), torch.randn(4, 10)
    losses = []
    for years, row in zip(age.tolist(), logits.sigmoid().tolist()):
        if years >= 0:
            losses.append(-sum(math.log(p if years > k else 1 - p) for k, p in enumerate(row)) / 10)
    assert float(age_loss(logits, age)) == pytest.approx(sum(losses) / 3, rel=1e-5)
    certain = 100.0 * (2 * (torch.tensor([[3], [0], [10]]) > torch.arange(10)) - 1)
    assert expected_age(certain).tolist() == [3, 0, 10]
    assert float(Ages(age, 10).correct(certain, torch.tensor([8, 5, 16]))) == pytest.approx(2 / 3)


def test_parts_have_no_row_and_no_person_in_common() -> None:
    label = torch.tensor([0, 1, -1, 1, 0, 1])
    task = Labels(label, 2)
    assert task.part(6, "even").tolist() == [0, 4] and task.part(6, "odd").tolist() == [1, 3, 5]
    assert task.part(6, "all").tolist() == [0, 1, 3, 4, 5]
    identity = torch.tensor([5, 5, 6, 6, 5, 7, 7])
    persons = Identities(identity)
    even, odd = (set(identity[persons.part(7, part)].tolist()) for part in ("even", "odd"))  # type: ignore[arg-type]
    assert even | odd == {5, 6, 7} and not even & odd


@pytest.mark.slow
def test_identities_and_ages_are_learned(tmp_path: Any) -> None:
    """Each person is a pattern with noise, and the age is the brightness."""
    torch.manual_seed(0)
    patterns = torch.rand(12, 3, 16, 16)
    identity = torch.arange(12).repeat_interleave(20)
    images = (255 * (0.6 * patterns[identity] + 0.4 * torch.rand(240, 3, 16, 16))).byte()
    training = Training(images=6000, epochs=60, batch=32, width=8, features=16, mirror=False)
    for kind in ("arcface", "cosface"):
        task = Identities(identity, 0.2, 16.0, kind)  # type: ignore[arg-type]
        network = train_classifier(images, task, training, rows=torch.arange(0, 240, 2))
        features = network(images[1::2] / 127.5 - 1)[0]
        cosines = torch.nn.functional.normalize(features) @ torch.nn.functional.normalize(features).T
        same = identity[1::2, None] == identity[None, 1::2]
        apart = ~torch.eye(120, dtype=torch.bool)
        assert cosines[same & apart].min() > cosines[~same].mean() + 0.2
    age = torch.randint(0, 60, (400,))
    bright = (age[:, None, None, None] * 4 + 8 * torch.rand(400, 1, 16, 16)).byte()
    network = train_classifier(bright, Ages(age, 60), replace(training, images=12_000), rows=torch.arange(300))
    found = expected_age(network(bright[300:] / 127.5 - 1)[1])
    assert (found - age[300:]).abs().mean() < 4  # years; a constant guess: 15


def test_a_network_has_the_head_of_its_task() -> None:
    pixels = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    training = Training(width=4, features=6)
    network = network_for(pixels, Identities(torch.tensor([0, 0, 1, 1])), training)
    assert isinstance(network.outputs, Cosines) and len(network.hidden) == 2  # no ReLU behind
    assert len(network_for(pixels, Attributes(torch.zeros(4, 3)), training).hidden) == 3
