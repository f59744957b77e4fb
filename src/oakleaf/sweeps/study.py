"""Optuna's study of a search, kept beside its runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.utils import instantiate
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from oakleaf.errors import UserError
from oakleaf.sweeps.job_state import Job
from oakleaf.sweeps.names import job_name
from oakleaf.sweeps.space import Space, chosen, params_of

OPEN = ("waiting", "running", "stopped", "failed")


class Study:
    """Asked for overrides to try, told what came of them. Another measure, or another way to take it, is another study:
    its values are none that could be compared.

    measure: the number that is optimised; evaluated: how it is taken, overrides for evaluate.py.
    exhausted: the sampler has nothing left to propose.
    """

    is_out_of_memory = False

    def __init__(
        self, folder: Path, space: Space, wanted: Any, measure: str, evaluated: Sequence[str], seed: int
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.prunes = space, wanted.pruner is not None
        self.measure, self.evaluated = measure, list(evaluated)
        self.open: dict[str, optuna.Trial] = {}
        self.reported: dict[str, int] = {}  # how many of a run's scores Optuna knows
        folder.mkdir(parents=True, exist_ok=True)
        direction: Any = "minimize" if better(measure, evaluated) == "lower" else "maximize"
        storage, name = _storage(wanted.storage, folder), " ".join([folder.name, measure, *evaluated])
        self.study = optuna.create_study(storage=storage, study_name=name, direction=direction, load_if_exists=True)
        made = _made(wanted.sampler, seed=seed + len(self.study.trials))  # a sampler begun anew would repeat itself
        self.study.sampler = made
        self.study.pruner = _made(wanted.pruner) if self.prunes else optuna.pruners.NopPruner()

    def take_up(self, jobs: Mapping[str, Job]) -> None:
        """What came of the jobs while nobody told, as after a kill or under another measure. The unfinished are asked
        for first, so their runs go on; failed ones are tried again."""
        params = {name: found for name, job in jobs.items() if (found := params_of(job.swept, self.space))}
        for name in params:
            if jobs[name].state in OPEN:
                self.study.enqueue_trial(params[name])
        for trial in self._trials(TrialState.RUNNING):
            self._tell(trial.number, jobs.get(job_name(chosen(trial.params))))
        told = {job_name(chosen(trial.params)) for trial in self._trials(TrialState.COMPLETE)}
        for name in params:
            if name not in told and (value := self._value(jobs[name])) is not None:
                self.study.add_trial(create_trial(params=params[name], distributions=self.space, value=value))

    def ask(self, count: int) -> list[list[str]]:
        """The overrides of so many trials.

        Raises:
            UserError: the sampler proposes what is not in the space.
        """
        lines = []
        for _ in range(count):
            try:
                trial = self.study.ask(self.space)
            except ValueError as error:
                raise UserError(f"hydra.sweeper.sampler: {error}") from error
            lines.append(chosen(trial.params))
            self.open[job_name(lines[-1])] = trial
        return lines

    def tell(self, jobs: Mapping[str, Job]) -> None:
        """How the trials that were asked for have ended."""
        for name, trial in self.open.items():
            self._tell(trial, jobs[name])
        self.open = {}

    def _tell(self, trial: optuna.Trial | int, job: Job | None) -> None:
        value = self._value(job) if job else None
        state = TrialState.PRUNED if job and job.state == "pruned" else TrialState.FAIL
        try:
            self.study.tell(trial, value, state=state if value is None else None)
        except RuntimeError:  # a grid's sampler ends by Study.stop, which is for studies that run the trials themselves
            self.is_out_of_memory = not self._trials(TrialState.WAITING)

    def _value(self, job: Job) -> float | None:
        found = job.score(self.measure) if job.state == "done" and job.evaluated == self.evaluated else None
        return found[1] if found else None

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states)

    def should_stop(self, name: str, scores: Sequence[float]) -> bool:
        """Report a run's scores so far, in order, and ask whether it is worth going on."""
        trial, known = self.open[name], self.reported.get(name, 0)
        for step, score in enumerate(scores[known:], known + 1):
            trial.report(score, step)
        self.reported[name] = len(scores)
        return len(scores) > known and trial.should_prune()


def better(measure: str, evaluated: Sequence[str]) -> str:
    """Which way the measure is better.

    Raises:
        UserError: it is none of the metric's numbers, or has no better way.
    """
    from oakleaf.builder.compose import compose_config
    from oakleaf.builder.instantiate import instantiate_allowed

    metrics = compose_config("evaluate", evaluated).metric
    directions = {name: way for node in metrics.values() for name, way in instantiate_allowed(node).better.items()}
    if not directions.get(measure):
        known = ", ".join(sorted(name for name, way in directions.items() if way))
        raise UserError(f"sweep.measure={measure}: none of the numbers of sweep.metric that have a better: {known}")
    return str(directions[measure])


def _storage(asked: str | None, folder: Path) -> Any:
    if asked and asked.endswith(".journal"):
        return JournalStorage(JournalFileBackend(asked))
    return asked or f"sqlite:///{folder / 'study.db'}"


def _made(node: Any, **more: Any) -> Any:
    """A sampler or a pruner: Optuna's own, which no recipe may ask for; the command line and `conf/` do.

    Raises:
        UserError: another thing.
    """
    if not str(node.get("_target_")).startswith("optuna."):
        raise UserError(f"hydra.sweeper: {node.get('_target_')} is none of Optuna's samplers and pruners")
    return instantiate(node, **more, _convert_="all")
