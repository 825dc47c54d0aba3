"""The terminal: one console, and one live display that stages and sweeps share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# Off a terminal (a file, a pipe) lines may be long: nothing is cut.
console = Console() if Console().is_terminal else Console(width=160)
_live = Progress(
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeRemainingColumn(),
    console=console,
    transient=True,
)
_open = 0


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Within the block, `bar(description, done, total)` moves a line of the display; off a terminal it prints
    nothing.
    """
    global _open
    if not console.is_terminal:
        yield lambda description, done, total: None
        return
    task = _live.add_task("", total=None, visible=False)
    if _open == 0:
        _live.start()
    _open += 1
    try:
        yield lambda description, done, total: _live.update(
            task, description=description, completed=done, total=total, visible=True
        )
    finally:
        _live.remove_task(task)
        _open -= 1
        if _open == 0:
            _live.stop()
