"""The error of every layer as media of W&B: a table of all that was measured, and a heat map of the SQNR."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

TENSORS = ("weight", "input", "output")
RANGE_DB = (0.0, 60.0)  # of the colours: the same for all runs, so that they can be compared side by side
ROW, FRAME = 22, 140  # pixels


def layer_media(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What to log for the `layers` of a record: `layers`, its rows, and `layers_sqnr_db`, the heat map."""
    import wandb

    if not layers:
        return {}
    columns: list[Any] = list(dict.fromkeys(name for row in layers for name in row))
    rows = [[row.get(name) for name in columns] for row in layers]
    table = wandb.Table(columns=columns, data=rows, allow_mixed_types=True)
    return {"layers": table, "layers_sqnr_db": wandb.Plotly(sqnr_heat_map(layers))}


def sqnr_heat_map(layers: Sequence[Mapping[str, Any]]) -> Any:
    """A plotly figure: a row for each layer, a column for each of its tensors, SQNR in dB as number and colour.

    A gap is a tensor that was not quantized, or a signal without any error.
    """
    import plotly.graph_objects as go

    found = {(row["layer"], row["tensor"]): row.get("sqnr_db") for row in layers}
    names = list(dict.fromkeys(row["layer"] for row in layers))
    others = sorted({tensor for _, tensor in found} - set(TENSORS))
    tensors = [*(tensor for tensor in TENSORS if any((name, tensor) in found for name in names)), *others]
    heat = go.Heatmap(
        z=[[found.get((name, tensor)) for tensor in tensors] for name in names],
        x=[html.escape(tensor) for tensor in tensors],
        y=[html.escape(name) for name in names],
        zmin=RANGE_DB[0],
        zmax=RANGE_DB[1],
        colorscale="Cividis",
        colorbar={"title": {"text": "dB"}},
        texttemplate="%{z:.1f}",
        hovertemplate="%{y}, %{x}: %{z:.2f} dB<extra></extra>",
    )
    figure = go.Figure(heat)
    figure.update_layout(title={"text": "SQNR of every layer, dB"}, template="none", height=FRAME + ROW * len(names))
    figure.update_xaxes(type="category", side="top")
    figure.update_yaxes(type="category", autorange="reversed", automargin=True)  # as in the network, from the top
    return figure
