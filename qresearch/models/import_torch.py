"""`qresearch import-torch FILE -o FILE`: a PyTorch checkpoint as safetensors; nothing pickled in it is run."""

import argparse
import sys
from pathlib import Path
from typing import Any

from qresearch.replacing import replacing


def main(arguments: list[str]) -> None:
    """Read a `.th`/`.pt`/`.pth` file with `weights_only=True` and write its tensors under their names,
    "module." taken off.
    """
    parser = argparse.ArgumentParser(prog="qresearch import-torch", description=main.__doc__)
    parser.add_argument("file", type=Path, help="a state dict, or a dict that holds one under `state_dict`")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the safetensors file to write")
    options = parser.parse_args(arguments)
    try:
        print(f"wrote {import_torch(options.file, options.output)} tensors to {options.output}")
    except (ImportError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def import_torch(source: Path, target: Path) -> int:
    """Convert `source` into `target` (by way of a temporary file); returns how many tensors it held.

    Raises ImportError without PyTorch, and ValueError for a file that holds no state dict or more than
    tensors.
    """
    try:
        import torch  # pyright: ignore[reportMissingImports]
        from safetensors.torch import save
    except ImportError as error:
        raise ImportError("PyTorch is not installed; install the extra: pip install 'qresearch[torch]'.") from error
    try:
        content: Any = torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # torch raises many kinds for one cause: this is no plain state dict
        raise ValueError(
            f"{source} cannot be read with weights_only=True ({type(error).__name__}): it is no PyTorch file, or "
            "holds more than tensors, and nothing is unpickled here. Where you trust it, load it yourself, "
            "torch.save(model.state_dict(), FILE), and import that."
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{source} holds no state dict of tensors; save model.state_dict() and try again.")
    tensors = {name.removeprefix("module."): value.detach().clone().contiguous() for name, value in state.items()}
    with replacing(target) as stream:
        stream.write(save(tensors))
    return len(tensors)
