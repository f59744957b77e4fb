"""Optuna's study of a search, kept beside its runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.utils import instantiate
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from oakleaf.errors import Mistake
from oakleaf.sweeps.names import job_name
from oakleaf.sweeps.record import Job
from oakleaf.sweeps.space import Space, chosen

OPEN = ("waiting", "running", "stopped", "failed")


class Study:
    """Asked for overrides to try, told what came of them. Trials that a kill left open are asked for first, so their
    runs go on; failed ones are tried again.

    measure: the number that is optimised; metric: how evaluate.py composes the measures that it is one of.
    exhausted: the sampler has nothing left to propose.
    """

    exhausted = False

    def __init__(
        self, folder: Path, space: Space, wanted: Any, measure: str, metric: Sequence[str], seed: int, jobs: Any
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.measure, self.prunes = space, measure, wanted.pruner is not None
        self.open: dict[str, optuna.Trial] = {}
        self.reported: dict[str, int] = {}  # how many of a run's scores Optuna knows
        folder.mkdir(parents=True, exist_ok=True)
        direction: Any = "minimize" if better(measure, metric) == "lower" else "maximize"
        storage = _storage(wanted.storage, folder)
        self.study = optuna.create_study(
            storage=storage, study_name=folder.name, direction=direction, load_if_exists=True
        )
        made = _made(wanted.sampler, seed=seed + len(self.study.trials))  # a sampler begun anew would repeat itself
        self.study.sampler = made
        self.study.pruner = _made(wanted.pruner) if self.prunes else optuna.pruners.NopPruner()
        self._take_up(jobs)

    def ask(self, count: int) -> list[list[str]]:
        """The overrides of so many trials.

        Raises:
            Mistake: the sampler proposes what is not in the space.
        """
        lines = []
        for _ in range(count):
            try:
                trial = self.study.ask(self.space)
            except ValueError as error:
                raise Mistake(f"hydra.sweeper.sampler: {error}") from error
            lines.append(chosen(trial.params))
            self.open[job_name(lines[-1])] = trial
        return lines

    def tell(self, jobs: Mapping[str, Job]) -> None:
        """How the trials that were asked for have ended."""
        for name, trial in self.open.items():
            found = jobs[name].score(self.measure) if jobs[name].state == "done" else None
            if found:
                self._tell(trial, found[1])
            elif jobs[name].state == "pruned":
                self._tell(trial, state=TrialState.PRUNED)
            else:
                self._tell(trial, state=TrialState.FAIL)
        self.open = {}

    def _tell(self, trial: optuna.Trial, value: float | None = None, state: TrialState | None = None) -> None:
        try:
            self.study.tell(trial, value, state=state)
        except RuntimeError:  # a grid's sampler ends by Study.stop, which is for studies that run the trials themselves
            self.exhausted = True

    def should_stop(self, name: str, scores: Sequence[float]) -> bool:
        """Report a run's scores so far, in order, and ask whether it is worth going on."""
        trial, known = self.open[name], self.reported.get(name, 0)
        for step, score in enumerate(scores[known:], known + 1):
            trial.report(score, step)
        self.reported[name] = len(scores)
        return len(scores) > known and trial.should_prune()

    def _take_up(self, jobs: Mapping[str, Job]) -> None:
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state == TrialState.RUNNING:
                self.study.tell(trial.number, state=TrialState.FAIL)
        unfinished = {name for name, job in jobs.items() if job.state in OPEN}
        params = {job_name(chosen(trial.params)): trial.params for trial in self.study.trials}
        for name in unfinished & params.keys():
            self.study.enqueue_trial(params[name])


def better(measure: str, metric: Sequence[str]) -> str:
    """Which way the measure is better.

    Raises:
        Mistake: it is none of the metric's numbers, or has no better way.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from oakleaf.cli.door import conf
    from oakleaf.recipe import make

    held = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf()), version_base="1.3"):
            composed = compose("evaluate", overrides=list(metric))
    finally:
        if held:
            GlobalHydra.instance().initialize(held)
    directions = {name: way for node in composed.metric.values() for name, way in make(node).better.items()}
    if not directions.get(measure):
        known = ", ".join(sorted(name for name, way in directions.items() if way))
        raise Mistake(f"sweep.measure={measure}: none of the numbers of sweep.metric that have a better: {known}")
    return str(directions[measure])


def _storage(asked: str | None, folder: Path) -> Any:
    if asked and asked.endswith(".journal"):
        return JournalStorage(JournalFileBackend(asked))
    return asked or f"sqlite:///{folder / 'study.db'}"


def _made(node: Any, **more: Any) -> Any:
    """A sampler or a pruner: Optuna's own, which no recipe may ask for; the command line and `conf/` do.

    Raises:
        Mistake: another thing.
    """
    if not str(node.get("_target_")).startswith("optuna."):
        raise Mistake(f"hydra.sweeper: {node.get('_target_')} is none of Optuna's samplers and pruners")
    return instantiate(node, **more, _convert_="all")
