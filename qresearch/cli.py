"""The command `qresearch`: thin fronts, each of which imports only what it needs."""

import sys

USAGE = """usage: qresearch COMMAND ...

  run KEY=VALUE ...     one experiment, for example: qresearch run method=ptq weight.bits=4
  sweep KEY=A,B,C ...   all combinations, for example: qresearch sweep method=ptq,qat weight.bits=8,4,2 seed=0,1,2
  methods               every grid, estimator, quantizer, observer and PTQ method, with its paper
  demo                  digits, from float training to a table and a picture, in about a minute
  import-torch FILE -o FILE
                        turn a PyTorch checkpoint into safetensors (needs the extra `torch`)

`qresearch run --help` lists the configuration groups and every key. Commands take all of Hydra's syntax.
"""


def main() -> None:
    """Entry point of the console script."""
    command, *arguments = sys.argv[1:] or ["--help"]
    commands = {"run": _run, "sweep": _sweep, "demo": _demo, "methods": _methods, "import-torch": _import_torch}
    if command in ("-h", "--help", "help"):
        print(USAGE, end="")
    elif command in commands:
        commands[command](arguments)
    else:
        print(f"qresearch: {command!r} is no command.\n\n{USAGE}", end="", file=sys.stderr)
        sys.exit(2)


def _run(arguments: list[str]) -> None:
    from qresearch.run import main_or_interrupted

    sys.argv = ["qresearch", *arguments]
    main_or_interrupted()


def _sweep(arguments: list[str]) -> None:
    _run(["--multirun", *arguments])


def _demo(arguments: list[str]) -> None:
    from qresearch.reports.demo import show_demo, sweep_folder

    folder = sweep_folder()
    _sweep(["experiment=demo", f"hydra.sweep.dir={folder}", *arguments])
    show_demo(folder)


def _methods(arguments: list[str]) -> None:
    from qresearch.methods import show_methods

    if arguments:
        print(f"qresearch methods takes no arguments, and got {arguments}.", file=sys.stderr)
        sys.exit(2)
    show_methods()


def _import_torch(arguments: list[str]) -> None:
    from qresearch.models.import_torch import main as import_main

    import_main(arguments)


if __name__ == "__main__":
    main()
