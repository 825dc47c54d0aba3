"""The page as one HTML file: its style, its script, plotly.js and the data inside it, and nothing fetched.

A content security policy in the page names its two scripts by their hashes and allows no connection (the live page:
one to its own server). So a text of a record that reached the page as HTML could not run, and nothing leaves.
plotly.js compiles its WebGL drawings with `Function`, hence 'unsafe-eval'.
"""

import base64
import functools
import hashlib
import html
import json
import re
from importlib import resources
from typing import Any

from plotly.offline import get_plotlyjs

# In this order: a file uses what stands before it.
SCRIPTS = (
    "statistics",
    "text",
    "data",
    "metrics",
    "deployed",
    "columns",
    "settings",
    "labels",
    "state",
    "lines",
    "picks",
    "look",
    "legend",
    "figure",
    "scroll",
    "filters",
    "table",
    "details",
    "accuracy",
    "points",
    "cost",
    "parallel",
    "heat",
    "split",
    "training",
    "scales",
    "compare",
    "pairs",
    "header",
    "problems",
    "live",
    "main",
)
STYLES = ("page", "parts", "tables")
PLACE = re.compile(r"\{\{(\w+)\}\}")


def page(*, title: str, data: str, curves: dict[str, Any] | None = None) -> str:
    """The HTML page. `data` is a `document` of report_data; a live page has no `curves`, it asks for them."""
    plotly, script, style = _parts()
    live = curves is None
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'; "
        f"script-src {_hash(plotly)} {_hash(script)} 'unsafe-eval'; connect-src {_connections(live)}"
    )
    places = {
        "policy": policy,
        "title": html.escape(title),
        "style": style,
        "plotly": plotly,
        "script": script,
        "data": embedded(data),
        "curves": embedded(json.dumps(curves, separators=(",", ":"))),
    }
    return PLACE.sub(lambda match: places[match.group(1)], _file("page.html"))


def embedded(text: str) -> str:
    """JSON in ASCII that can stand inside a <script> element: no tag and no comment can begin or end in it."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _connections(live: bool) -> str:
    return "'self'" if live else "'none'"


@functools.cache
def _parts() -> tuple[str, str, str]:
    """plotly.js, our script and our style."""
    script = "\n".join(['"use strict";', *(_file(f"{name}.js") for name in SCRIPTS)])
    return get_plotlyjs(), script, "\n".join(_file(f"{name}.css") for name in STYLES)


def _file(name: str) -> str:
    return resources.files("qresearch.reports").joinpath("page", name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
