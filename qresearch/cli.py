"""The command `qresearch`: thin fronts, each of which imports only what it needs."""

import hashlib
import importlib
import importlib.util
import re
import sys
from pathlib import Path

USAGE = """usage: qresearch COMMAND ...

  run KEY=VALUE ...     one experiment, for example: qresearch run method=ptq weight.bits=4
  sweep KEY=A,B,C ...   all combinations, for example: qresearch sweep method=ptq,qat weight.bits=8,4,2 seed=0,1,2
                        the same command again goes on where it was stopped
  table [NAME [run]]    tables beside published numbers: list them, show one, run what it lacks
  report [RUNS]         one HTML page of runs: tables, curves, errors by layer, comparisons
  dashboard [RUNS]      the same page, live
  collect [RUNS]        gather the results below a folder into its index
  export-wandb RUNS     past runs for Weights & Biases
  export RESULT --to T  the quantized network of a result as a file: safetensors, onnx or litert
  deploy RESULT         its bytes, latency, memory and energy, measured in ONNX Runtime, LiteRT and JAX
  methods               every grid, estimator, quantizer, observer and PTQ method, with its paper
  demo                  digits, from float training to a table and a picture, in about a minute
  import-torch FILE -o FILE
                        turn a PyTorch checkpoint into safetensors (needs the extra `torch`)

`qresearch run --help` lists the configuration groups and every key. Commands take all of Hydra's syntax.
"""
# Commands that are modules with a `main(arguments)`.
MODULES = {
    "report": "qresearch.reports.report_command",
    "dashboard": "qresearch.reports.dashboard_command",
    "collect": "qresearch.reports.collect_command",
    "export-wandb": "qresearch.reports.export_wandb_command",
    "import-torch": "qresearch.models.import_torch",
    "export": "qresearch.deploy.export_command",
    "deploy": "qresearch.deploy.deploy_command",
}
# Presets of other engines: the extra that brings each, and what Hydra finds of it.
ENGINES = {
    "joblib": ("joblib", "hydra_joblib_launcher"),
    "submitit_local": ("submitit", "hydra_submitit_launcher"),
    "slurm": ("submitit", "hydra_submitit_launcher"),
    "ray": ("ray", "hydra_ray_launcher"),
    "ray_cluster": ("ray", "hydra_ray_launcher"),
    "optuna": ("optuna", "hydra_optuna_sweeper"),
}
UNNAMED = ("tracker", "runs_dir", "hydra", "sweep")  # they are not part of what a sweep is


def main() -> None:
    """Entry point of the console script."""
    command, *arguments = sys.argv[1:] or ["--help"]
    commands = {"run": _run, "sweep": _sweep, "demo": _demo, "methods": _methods, "table": _table}
    if command in ("-h", "--help", "help"):
        print(USAGE, end="")
    elif command in commands:
        commands[command](arguments)
    elif command in MODULES:
        importlib.import_module(MODULES[command]).main(arguments)
    else:
        print(f"qresearch: {command!r} is no command.\n\n{USAGE}", end="", file=sys.stderr)
        sys.exit(2)


def _run(arguments: list[str]) -> None:
    from qresearch.run import main_or_interrupted

    sys.argv = ["qresearch", *arguments]
    main_or_interrupted()


def _sweep(arguments: list[str]) -> None:
    _check_engine(arguments)
    named = any(argument.lstrip("+").partition("=")[0] in ("sweep.name", "hydra.sweep.dir") for argument in arguments)
    name = [] if named else [f"sweep.name={sweep_name(arguments)}"]
    _run(["--multirun", *_with_absolute_folder(arguments), *name])


def _with_absolute_folder(arguments: list[str]) -> list[str]:
    """The arguments with the folder of runs said from the root, where workers may have been started elsewhere."""
    if "sweep=ray_cluster" not in arguments:
        return arguments
    given = [word.removeprefix("runs_dir=") for word in arguments if word.startswith("runs_dir=")] or ["runs"]
    kept = [word for word in arguments if not word.startswith("runs_dir=")]
    return [*kept, f"runs_dir='{Path(given[-1]).absolute()}'"]


def _check_engine(arguments: list[str]) -> None:
    """End with a message where the engine of a preset is an extra that is not installed."""
    for name in (word.removeprefix("sweep=") for word in arguments if word.startswith("sweep=")):
        extra, plugin = ENGINES.get(name, ("", ""))
        if plugin and importlib.util.find_spec(f"hydra_plugins.{plugin}") is None:
            print(
                f"sweep={name} needs the extra `{extra}`, which is not installed: `make setup EXTRAS={extra}` in a "
                f"checkout, or pip install 'qresearch[{extra}]'.",
                file=sys.stderr,
            )
            sys.exit(1)


def sweep_name(arguments: list[str]) -> str:
    """The name of the folder of a sweep: equal for the same overrides in any order."""
    kept = sorted(word for word in arguments if re.split(r"[=./@]", word.lstrip("+"))[0] not in UNNAMED)
    return f"sweep_{hashlib.sha256(repr(kept).encode()).hexdigest()[:8]}"


def _demo(arguments: list[str]) -> None:
    from qresearch.reports.demo import show_demo
    from qresearch.reports.sweep_display import SweepDisplay

    runs = next((word.partition("=")[2] for word in arguments if word.startswith("runs_dir=")), "runs")
    _sweep(["experiment=demo", "sweep.name=demo", *arguments])
    show_demo(Path(runs) / "demo", SweepDisplay.found)


def _table(arguments: list[str]) -> None:
    from qresearch.tables.command import main as table_main

    table_main(arguments, _run_cells)


def _run_cells(cells: list[list[str]], folder: Path) -> None:
    from qresearch.sweep.launch import run_cells_named

    run_cells_named(cells, folder)


def _methods(arguments: list[str]) -> None:
    from qresearch.methods import show_methods

    if arguments:
        print(f"qresearch methods takes no arguments, and got {arguments}.", file=sys.stderr)
        sys.exit(2)
    show_methods()


if __name__ == "__main__":
    main()
