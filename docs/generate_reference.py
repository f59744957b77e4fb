"""Write docs/reference/ from the files in conf/, from the docstrings of their classes, and from reference_tables.py.

    python docs/generate_reference.py [FOLDER]

`make reference` does the same. tests/test_reference.py fails while the committed pages differ from this script's.
"""

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from reference_tables import DATA_NEEDS, GROUPS, INTRODUCTIONS, LOGGED_NAMES

from oakleaf.augment import consistency
from oakleaf.builder.compose import compose_config
from oakleaf.losses import (
    conditioning_augmentation,
    lecam,
    likelihood,
    orthogonal,
    path_length,
    penalties,
    recognition,
    self_supervision,
    terms,
    translation,
)

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"
TARGETS = {"train": "oakleaf.gan.GAN"}  # the class whose docstring explains keys of a command's file
MARK = "<!-- Written by docs/generate_reference.py: make reference -->\n\n"
ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
AUTHORS = r"[A-Z][\w-]+(?: (?:&|and) [A-Z][\w-]+| et al\.)?"
PAPER = re.compile(rf"{AUTHORS} \d{{4}}(?: \([^)]*\))?, {ARXIV.pattern}")
SENTENCE = re.compile(r"(?<!al)(?<!eq)(?<=[\w)\]'\"`])\.\s+(?=[A-Z`])")  # the end of one, and not of "et al."
KEY = re.compile(r"( *)([\w@/.-]+):(?=\s|$)(.*)")  # of a line of YAML: indentation, key, what follows
ARGUMENT = re.compile(r"    (\w+)(?: \([^)]*\))?: (.*)")  # a line of an `Args:` section that begins an argument


class Option(NamedTuple):
    """One key of a YAML file: its dotted name, its value as text, and what it means."""

    key: str
    value: str
    meaning: str


# Markdown


def cell(text: str) -> str:
    """Return text that is safe in a cell of a table, with arXiv numbers as links."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    escaped = "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in parts)
    return ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", escaped).replace("|", r"\|")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def linked(target: str) -> str:
    """Return the name of a class or function, as a link to its file if it is Oakleaf's."""
    if not target.startswith("oakleaf."):
        return code(target)
    file = inspect.getsourcefile(get_object(target)) or ""
    return f"[{code(target)}](../../{Path(file).relative_to(ROOT)})"


def short(target: str) -> str:
    """Return the same link with the last two parts of the name alone, `dcgan.Generator`."""
    return linked(target).replace(code(target), code(".".join(target.split(".")[-2:])))


def page(name: str, *parts: str) -> str:
    return MARK + section(name, *parts)


def section(name: str, *parts: str) -> str:
    return "\n".join([INTRODUCTIONS[name].removeprefix("\n"), *parts])


# YAML files and their comments


def choices(group: str) -> list[Path]:
    return sorted((CONF / group).glob("*.yaml"))


def plain(path: Path) -> Any:
    """Return a file's content, unresolved."""
    return OmegaConf.to_container(OmegaConf.load(path))


def extended(path: Path) -> Any:
    """Return a file's content merged into that of the files of its own group that it extends."""
    entries = [entry for entry in plain(path).get("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    bases = [extended(path.parent / f"{entry.partition('@')[0]}.yaml") for entry in entries]
    return OmegaConf.to_container(OmegaConf.merge(*bases, plain(path)))


def header(path: Path) -> str:
    """Return the comment that a file begins with, without its package line."""
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("#").strip())
    return " ".join(lines)


def title(path: Path) -> str:
    """Return what the header calls the file, without the paper that follows."""
    sentence = first_sentence(header(path))
    paper = PAPER.search(sentence)
    return (sentence[: paper.start()].rstrip(" :,(") if paper else "") or sentence


def papers(path: Path) -> str:
    """Return the papers that a header cites, each with its arXiv number."""
    return "; ".join(dict.fromkeys(paper.group() for paper in PAPER.finditer(header(path))))


def comments(path: Path) -> dict[str, str]:
    """Return the comment behind each key of a file, by dotted key."""
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in filter(None, map(KEY.fullmatch, path.read_text().splitlines())):
        indent, key, rest = len(line[1]), line[2], line[3]
        above = [*(entry for entry in above if entry[0] < indent), (indent, key)]
        unquoted = re.sub(r"\"[^\"]*\"|'[^']*'", lambda text: "x" * len(text.group()), rest)
        if " # " in unquoted:
            found[".".join(name for _, name in above)] = rest[unquoted.index(" # ") + 3 :].strip()
    return found


def options(path: Path, begin: str = "", target: str | None = None) -> list[Option]:
    """Return the keys of a file that begin so, each with its comment, or else with what its class's docstring says."""
    content = {key: value for key, value in plain(path).items() if key not in ("defaults", "hydra")}
    args = arguments(content.get("_target_", target))
    return [option for option in _walk(content, "", comments(path), args) if option.key.startswith(begin)]


def _walk(node: Mapping[str, Any], above: str, notes: Mapping[str, str], args: Mapping[str, str]) -> Iterator[Option]:
    for key, value in node.items():
        if key in ("_target_", "_partial_", "_recursive_"):
            continue
        name = f"{above}{key}"
        meaning = notes.get(name) or args.get(key, "")
        if isinstance(value, Mapping) and value:
            yield Option(name, "", meaning)
            yield from _walk(value, f"{name}.", notes, arguments(value.get("_target_")))
        else:
            yield Option(name, text_of(value), meaning)


def text_of(value: Any) -> str:
    """Return a value as YAML writes it."""
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)


def option_table(found: Iterable[Option], above: str = "") -> str:
    return table(["key", "value", "meaning"], [[code(f"{above}{o.key}"), code(o.value), o.meaning] for o in found])


def choice_table(group: str, what: str) -> str:
    """Return a table of a small group: each choice, its class, and its header or else its class's docstring."""
    targets = {path: plain(path)["_target_"] for path in choices(group)}
    rows = [[code(path.stem), short(target), header(path) or summary(target)] for path, target in targets.items()]
    return table(["choice", "class", what], rows)


# Docstrings


def first_sentence(text: str) -> str:
    return SENTENCE.split(" ".join(text.split()), maxsplit=1)[0].rstrip(".")


def docstring(target: str) -> str:
    """Return a class's own docstring; the signature that a dataclass puts in its place counts as none."""
    found = get_object(target)
    text = inspect.getdoc(found) or ""
    return "" if text.startswith(f"{found.__name__}(") else text


def summary(target: str) -> str:
    return first_sentence(docstring(target).split("\n\n")[0])


def arguments(target: str | None) -> dict[str, str]:
    """Return what the `Args:` section of a class's docstring says of each argument."""
    if target is None:
        return {}
    section = re.search(r"^Args:\n((?:    .*\n?|\n)*)", docstring(target), re.MULTILINE)
    found: dict[str, str] = {}
    for line in section[1].splitlines() if section else []:
        if begin := ARGUMENT.fullmatch(line):
            name = begin[1]
            found[name] = begin[2]
        elif found:
            found[name] = f"{found[name]} {line.strip()}"
    return {name: re.sub(r"\bNone\b", "null", text.strip().rstrip(".")) for name, text in found.items()}


def signature(target: str) -> str:
    """Return a class's arguments with their defaults."""
    parameters = inspect.signature(get_object(target)).parameters.values()
    return ", ".join(p.name if p.default is p.empty else f"{p.name}={text_of(p.default)}" for p in parameters)


def subclasses(base: type, *modules: Any) -> list[str]:
    """Return the names of the classes below `base` that these modules define."""
    own = [value for module in modules for value in vars(module).values() if inspect.isclass(value)]
    found = {f"{one.__module__}.{one.__name__}" for one in own if issubclass(one, base) and one is not base}
    return sorted(found)


def class_table(targets: Iterable[str], what: str) -> str:
    rows = [[linked(target), code(signature(target)), summary(target)] for target in targets]
    return table(["class", "arguments", what], rows)


# Pages


def models() -> str:
    rows = [_model(path, compose_config("train", [f"model={path.stem}"])) for path in choices("model")]
    head = ["model=", "system", "paper", "game", "networks", "condition", "loss=", "optim=", "terms of its own"]
    notes = "".join(f"- `{path.stem}`: {cell(header(path))}\n" for path in choices("model"))
    return page("models", table(head, rows), section("models/notes", notes))


def _model(path: Path, config: DictConfig) -> list[str]:
    game = config.model.game
    condition = game.get("condition") and (game.condition.get("key") or get_object(game.condition._target_).key)
    networks = [name for name in _targets(OmegaConf.to_container(game)) if ".networks." in name]
    has_critic = config.optim.get("discriminator") is not None
    return [
        code(path.stem),
        title(path),
        papers(path),
        short(game._target_),
        ", ".join(short(name) for name in dict.fromkeys(networks)),
        code(condition or ""),
        code(config.loss.name) if has_critic else "no discriminator",
        code(_override(path, "optim") or "adam"),
        _terms(game.get("terms") or {}),
    ]


def _targets(node: Any) -> Iterator[str]:
    """Yield the name of every class below a node."""
    if isinstance(node, Mapping):
        yield from [node["_target_"]] if "_target_" in node else []
        for value in node.values():
            yield from _targets(value)


def _override(path: Path, group: str) -> str | None:
    """Return the choice of a group that a system's file, or one that it extends, selects."""
    entries = plain(path).get("defaults", [])
    own = [entry[key] for entry in entries if isinstance(entry, dict) for key in entry if f"override /{group}@" in key]
    bases = [path.with_stem(entry) for entry in entries if isinstance(entry, str) and entry != "_self_"]
    return next(iter([*own, *filter(None, (_override(base, group) for base in bases))]), None)


def _terms(terms: Mapping[str, Any]) -> str:
    players: dict[str, list[str]] = {}
    for player, named in terms.items():
        for name, term in named.items():
            if term is None:  # taken from the model that this one extends, and left out
                continue
            players.setdefault(f"`{name}` ({short(term._target_)})", []).append(player)
    return "; ".join(f"{', '.join(who)}: {term}" for term, who in players.items())


def losses() -> str:
    rows = []
    for path in choices("loss"):
        node = plain(path)
        parts = {**node.get("penalties", {}), **node.get("constraints", {})}
        added = "; ".join(f"`{name}`: {short(part['_target_'])}" for name, part in parts.items())
        target, norm = node["objective"]["_target_"], node.get("norm", "batch")
        rows.append([code(path.stem), summary(target), papers(path), short(target), code(norm), added])
    divergences = choice_table("loss/divergence", "divergence")
    found = subclasses(
        terms.Term,
        terms,
        penalties,
        likelihood,
        translation,
        conditioning_augmentation,
        lecam,
        consistency,
        recognition,
        path_length,
        orthogonal,
        self_supervision,
    )
    return page(
        "losses",
        table(["loss=", "what it minimises", "paper", "objective", "norm", "penalties and constraints"], rows),
        section("losses/divergences", divergences),
        section("losses/penalties", choice_table("loss/penalty", "what it is")),
        section("losses/terms", class_table(found, "what it is")),
        section("losses/keys", option_table(options(CONF / "train.yaml", "loss."))),
    )


def augmentations() -> str:
    files = [path for path in choices("augment") if extended(path).get("_target_")]
    rows = [
        [code(path.stem), short(target := extended(path)["_target_"]), summary(target), header(path)] for path in files
    ]
    keys = [
        [code(path.stem), code(f"augment.{option.key}"), code(option.value), option.meaning]
        for path in files
        for option in options(path)
    ]
    return page(
        "augment",
        table(["augment=", "class", "what it does", "source"], rows),
        section("augment/keys", table(["augment=", "key", "value", "meaning"], keys)),
        section(
            "augment/classes", class_table([f"oakleaf.augment.{n}" for n in ("Chain", "FlipAndShift")], "what it does")
        ),
    )


def optimizers() -> str:
    rows = []
    for path in choices("optim"):
        players = [extended(path)[player] for player in ("discriminator", "generator")]
        optimizer = players[0]["optimizer"]
        name = optimizer["_target_"].rpartition(".")[2]
        numbers = ", ".join(f"{key} {value}" for key, value in optimizer.items() if not key.startswith("_"))
        lr, every = (", ".join(f"{player[key]:g}" for player in players) for key in ("lr", "every"))
        rows.append([code(path.stem), header(path), name, numbers, lr, every])
    adam = CONF / "optim/adam.yaml"
    schedules = [f"oakleaf.optim.schedules.{name}" for name in ("Linear", "Cosine", "Exponential")]
    return page(
        "optim",
        table(["optim=", "source", "algorithm", "its numbers", "lr", "every"], rows),
        section("optim/keys", option_table([*options(adam, "generator."), *options(adam, "ema")], "optim.")),
        section("optim/schedules", class_table(schedules, "what it does")),
    )


def data() -> str:
    rows = []
    for path in choices("data"):
        node = extended(path)
        source = node.get("source", {}).get("_target_") or node["_target_"]
        shape = " x ".join("?" if node[key] is None else str(node[key]) for key in ("channels", "size"))
        needs = DATA_NEEDS.get(path.stem, "")
        numbers = [shape, str(node["batch_size"]), str(node["epochs"])]
        rows.append([code(path.stem), header(path), needs, short(source), *numbers])
    keys = options(CONF / "data/base/images.yaml")
    return page(
        "data",
        table(["data=", "what it is", "what it needs", "source", "channels x size", "batch size", "epochs"], rows),
        section("data/inputs", choice_table("data/input", "what it makes")),
        section("data/mixtures", choice_table("data/mixture", "density")),
        section("data/keys", option_table(keys, "data.")),
    )


def conditions() -> str:
    rows = []
    for path in choices("model/condition"):
        node = plain(path)
        key = node.get("key") or getattr(get_object(node["_target_"]), "key", path.stem)
        rows.append([code(path.stem), header(path), code(key), short(node["_target_"]), summary(node["_target_"])])
    head = ["model/condition=", "what", "rows of the batch", "class", "how y is made"]
    return page("conditions", table(head, rows))


def frozen() -> str:
    rows = []
    for path in choices("model/frozen"):
        node = plain(path)
        keys = ", ".join(code(key) for key in node if not key.startswith("_"))
        rows.append([code(path.stem), short(node["_target_"]), header(path), keys])
    return page("frozen", table(["+model/frozen@model.frozen.NAME=", "class", "what it is", "keys"], rows))


def metrics() -> str:
    rows = []
    for path in choices("metric"):
        ((name, node),) = plain(path).items()
        metric = get_object(node["_target_"])
        better = metric.better if isinstance(metric.better, Mapping) else {}
        numbers = ", ".join(f"`{number}`{f' ({way})' if way else ''}" for number, way in better.items())
        extractor = "yes" if metric.uses_extractor else ""
        rows.append([code(name), summary(node["_target_"]), numbers, extractor, papers(path), short(node["_target_"])])
    return page(
        "metrics",
        table(["metric=", "what it measures", "numbers", "extractor", "paper", "class"], rows),
        section("metrics/extractors", choice_table("extractor", "features")),
    )


def modes() -> str:
    keys = [
        [code(p.stem), code(f"mode.{o.key}"), code(o.value), o.meaning] for p in choices("mode") for o in options(p)
    ]
    return page(
        "modes",
        choice_table("mode", "what is drawn"),
        section("modes/keys", table(["mode=", "key", "value", "meaning"], keys)),
        section("modes/command", option_table(options(CONF / "sample.yaml"))),
    )


def experiments() -> str:
    rows = []
    for path in choices("experiment"):
        groups = ", ".join(f"`{group}={choice}`" for group, choice in _overrides(path).items())
        rows.append([code(path.stem), header(path), groups, _length(path)])
    return page("experiments", table(["experiment=", "what it is", "groups", "length"], rows))


def _length(path: Path) -> str:
    """Return the images or epochs that an experiment trains for."""
    own = extended(path)
    if "max_images" in own:
        return f"{own['max_images']:,} images"
    epochs = own.get("data", {}).get("epochs") or extended(CONF / f"data/{_overrides(path)['data']}.yaml")["epochs"]
    return f"{epochs:,} epochs"


def _overrides(path: Path) -> dict[str, str]:
    """Return the choices of an experiment, with those of the experiments that it extends."""
    found: dict[str, str] = {}
    for entry in plain(path).get("defaults", []):
        if isinstance(entry, Mapping):
            found |= {key.removeprefix("override /").partition("@")[0]: choice for key, choice in entry.items()}
        elif entry != "_self_":
            found |= _overrides(path.with_stem(entry))
    return found


def theory() -> str:
    labs = [f"## `lab={path.stem}`\n\n{option_table(options(path), 'lab.')}" for path in choices("lab")]
    return page("theory", choice_table("lab", "claim"), *labs)


def callbacks() -> str:
    parts = []
    for path in choices("callbacks"):
        nodes = {key: node for key, node in plain(path).items() if key != "defaults"}
        rows = [[code(f"callbacks.{k}"), linked(n["_target_"]), summary(n["_target_"])] for k, n in nodes.items()]
        what = table(["key", "class", "what it does"], rows)
        parts.append(section(f"callbacks/{path.stem}", what, option_table(options(path), "callbacks.")))
    return page("callbacks", *parts)


def every_option() -> str:
    parts = [
        _command(CONF / f"{name}.yaml")
        for name in ("train", "sample", "translate", "evaluate", "export", "theory", "composite")
    ]
    return page(
        "options", *parts, section("options/trainer", option_table(options(CONF / "trainer/auto.yaml"), "trainer."))
    )


def _command(path: Path) -> str:
    entries = [entry for entry in plain(path).get("defaults", []) if isinstance(entry, dict)]
    groups = {key.removeprefix("override "): choice for entry in entries for key, choice in entry.items()}
    shown = ", ".join(_default(key, choice) for key, choice in groups.items() if "job_logging" not in key)
    words = f"{header(path).rstrip('.')}.\n\n" + (f"Groups and their defaults: {shown}.\n\n" if shown else "")
    return f"## `{path.stem}.py`\n\n{words}{option_table(options(path, target=TARGETS.get(path.stem)))}"


def _default(group: str, choice: Any) -> str:
    names = f"[{','.join(choice)}]" if isinstance(choice, list) else choice
    return f"`{group}=` (none)" if choice is None else f"`{group}={names}`"


def groups() -> str:
    rows = []
    for group, (key, package, base, what) in GROUPS.items():
        names = ", ".join(code(path.stem) for path in choices(group))
        rows.append([code(f"{group}="), what, code(key), package, linked(base) if base else "", names])
    return page("groups", table(["group", "what a choice describes", "key", "package", "kind", "choices"], rows))


def logged_names() -> str:
    rows = [[code(name), meaning, when] for name, meaning, when in LOGGED_NAMES]
    return page("logged_names", table(["name", "meaning", "when"], rows))


def index() -> str:
    return page("README", "".join(f"- [{name}]({name}): {what}\n" for name, (_, what) in PAGES.items()))


PAGES = {
    "models.md": (models, "systems, `model=`"),
    "losses.md": (losses, "losses, penalties and terms, `loss=`"),
    "augment.md": (augmentations, "augmentation between images and critic, `augment=`"),
    "optim.md": (optimizers, "optimizers and schedules, `optim=`"),
    "data.md": (data, "data sets, `data=`"),
    "conditions.md": (conditions, "conditions, `model/condition=`"),
    "frozen.md": (frozen, "frozen networks, `model/frozen=`"),
    "metrics.md": (metrics, "metrics and extractors, `metric=`, `extractor=`"),
    "modes.md": (modes, "ways to sample, `mode=`"),
    "experiments.md": (experiments, "published configurations, `experiment=`"),
    "theory.md": (theory, "theory labs, `lab=`"),
    "callbacks.md": (callbacks, "callbacks and their keys, `callbacks=`"),
    "options.md": (every_option, "options of every command"),
    "groups.md": (groups, "configuration groups, and the packages behind them"),
    "logged_names.md": (logged_names, "every logged scalar"),
}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(index())
    for name, (write, _) in PAGES.items():
        (folder / name).write_text(write())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs/reference")
