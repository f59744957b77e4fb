"""The Optuna study of a search, which is stored in the sweep's folder."""

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
from oakleaf.sweeps.space import Space, to_overrides, to_params

UNFINISHED = ("waiting", "running", "stopped", "failed")


class Study:
    """Suggests overrides to try, by Optuna's ask-and-tell interface, and records the scores of the runs.

    Different scores, or scores of another evaluation, cannot be compared. So each has a study of its own in the same
    storage; the study's name contains both.

    Args:
        folder: the sweep's folder.
        space: distributions by key.
        settings: storage, sampler and pruner (`oakleaf.sweeps.search.Settings`).
        score_name: name of the score that is optimised.
        evaluation: how it is computed, as overrides for evaluate.py.
        seed: seed of the sampler; the number of the study's trials is added, since a sampler with the same seed would
            repeat its suggestions after a restart.

    Attributes:
        is_complete: the sampler has nothing more to suggest, as a grid's at its end.
        prunes: whether there is a pruner.
        study: Optuna's study.
    """

    is_complete = False

    def __init__(
        self, folder: Path, space: Space, settings: Any, score_name: str, evaluation: Sequence[str], seed: int
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.prunes = space, settings.pruner is not None
        self.score_name, self.evaluation = score_name, list(evaluation)
        self._running: dict[str, optuna.Trial] = {}  # by job name
        self._reported: dict[str, int] = {}  # by job name: how many scores Optuna has
        folder.mkdir(parents=True, exist_ok=True)
        direction: Any = "minimize" if better_direction(score_name, evaluation) == "lower" else "maximize"
        storage, name = _storage(settings.storage, folder), " ".join([folder.name, score_name, *evaluation])
        self.study = optuna.create_study(storage=storage, study_name=name, direction=direction, load_if_exists=True)
        self.study.sampler = _instantiate(settings.sampler, seed=seed + len(self.study.trials))
        self.study.pruner = _instantiate(settings.pruner) if self.prunes else optuna.pruners.NopPruner()

    def restore(self, jobs: Mapping[str, Job]) -> None:
        """Bring the study up to date with the jobs, after a kill or with another score.

        Unfinished jobs are enqueued, so that `ask` suggests them first and their runs are continued; trials that Optuna
        takes for running get the results of their jobs; and finished jobs that it does not know are added.
        """
        params = {name: found for name, job in jobs.items() if (found := to_params(job.swept, self.space))}
        for name in params:
            if jobs[name].state in UNFINISHED:
                self.study.enqueue_trial(params[name])
        for trial in self._trials(TrialState.RUNNING):
            self._tell(trial.number, jobs.get(job_name(to_overrides(trial.params))))
        known = {job_name(to_overrides(trial.params)) for trial in self._trials(TrialState.COMPLETE)}
        for name in params:
            if name not in known and (value := self._value(jobs[name])) is not None:
                self.study.add_trial(create_trial(params=params[name], distributions=self.space, value=value))

    def ask(self, count: int) -> list[list[str]]:
        """Suggest trials.

        Args:
            count: how many.

        Returns:
            The overrides of each trial.

        Raises:
            UserError: the sampler suggests a value that is not in the space.
        """
        suggestions = []
        for _ in range(count):
            try:
                trial = self.study.ask(self.space)
            except ValueError as error:
                raise UserError(f"hydra.sweeper.sampler: {error}") from error
            suggestions.append(to_overrides(trial.params))
            self._running[job_name(suggestions[-1])] = trial
        return suggestions

    def tell(self, jobs: Mapping[str, Job]) -> None:
        """Record the results of the suggested trials.

        Args:
            jobs: the sweep's jobs by name.
        """
        for name, trial in self._running.items():
            self._tell(trial, jobs[name])
        self._running = {}

    def _tell(self, trial: optuna.Trial | int, job: Job | None) -> None:
        value = self._value(job) if job else None
        state = TrialState.PRUNED if job and job.state == "pruned" else TrialState.FAIL
        try:
            self.study.tell(trial, value, state=state if value is None else None)
        except RuntimeError:  # a grid's sampler calls Study.stop at its end, which needs Study.optimize
            self.is_complete = not self._trials(TrialState.WAITING)

    def _value(self, job: Job) -> float | None:
        score = job.score(self.score_name) if job.is_done(self.evaluation) else None
        return score[1] if score else None

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states)

    def should_prune(self, name: str, scores: Sequence[float]) -> bool:
        """Report a running job's scores to Optuna, and return whether its pruner stops the job.

        Args:
            name: the job's name.
            scores: all its scores during training so far, in order.
        """
        trial, known = self._running[name], self._reported.get(name, 0)
        for step, score in enumerate(scores[known:], known + 1):
            trial.report(score, step)
        self._reported[name] = len(scores)
        return len(scores) > known and trial.should_prune()


def better_direction(score_name: str, evaluation: Sequence[str]) -> str:
    """Return "lower" or "higher", whichever is better for a score.

    Args:
        score_name: name of the score.
        evaluation: overrides for evaluate.py, which name the metrics.

    Raises:
        UserError: the metrics do not compute it, or neither direction is better.
    """
    from oakleaf.builder.compose import compose_config
    from oakleaf.builder.instantiate import instantiate_allowed

    metrics = compose_config("evaluate", evaluation).metric
    directions = {
        name: better
        for node in metrics.values()
        for name, better in instantiate_allowed(node).better.items()
        if better in ("lower", "higher")
    }
    if score_name not in directions:
        known = ", ".join(sorted(directions))
        raise UserError(f"sweep.measure={score_name}: choose a score of sweep.metric that can be optimised: {known}")
    return str(directions[score_name])


def _storage(configured: str | None, folder: Path) -> Any:
    if configured and configured.endswith(".journal"):
        return JournalStorage(JournalFileBackend(configured))
    return configured or f"sqlite:///{folder / 'study.db'}"


def _instantiate(node: Any, **arguments: Any) -> Any:
    """Build a sampler or a pruner of Optuna.

    Optuna is not on the allowlist of stored configurations; this node comes from the command line or `conf/`.

    Raises:
        UserError: another class.
    """
    if not str(node.get("_target_")).startswith("optuna."):
        raise UserError(f"hydra.sweeper: {node.get('_target_')} is not a sampler or pruner of Optuna")
    return instantiate(node, **arguments, _convert_="all")
