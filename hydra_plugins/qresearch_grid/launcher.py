"""What Hydra has to find in a package of its own: the launcher and the sweeper `grid`, fronts of qresearch.sweep."""

import sys
from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.utils import JobReturn
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from omegaconf.errors import OmegaConfBaseException


class GridLauncher(Launcher):
    """Runs all cells in this process, those of a group through the same compiled programs."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.hydra_context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        from qresearch.sweep.launch import launch

        return launch(self.hydra_context.config_loader, self.config, job_overrides)


class GridSweeper(BasicSweeper):
    """Hydra's own sweeper over all combinations, with checks before the first cell that take a moment only."""

    def sweep(self, arguments: list[str]) -> Any:
        from qresearch.reports.sweep_display import SweepDisplay
        from qresearch.sweep.launch import check_span

        assert self.config is not None
        try:
            check_span(arguments, self.params or {}, self.config)
            return super().sweep(arguments)
        except Exception as error:
            if SweepDisplay.active is not None:
                SweepDisplay.active.leave()
            if isinstance(error, (CompactHydraException, OmegaConfBaseException)):
                message = str(error)
            elif isinstance(self.launcher, GridLauncher):
                raise
            else:
                message = (
                    f"the engine gave up ({type(error).__name__}: {str(error).splitlines()[0]}). Cells that have "
                    "finished are kept, and the same command goes on with the rest."
                )
            print(f"error: {message}", file=sys.stderr)
            sys.exit(1)

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose every cell; our own launcher does so by itself, before the first one runs."""
        from qresearch.compose import Composer

        if isinstance(self.launcher, GridLauncher):
            return
        assert self.config is not None and self.hydra_context is not None
        composer = Composer(self.hydra_context.config_loader, self.config)
        for overrides in batch:
            composer.compose(overrides)
