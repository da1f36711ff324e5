"""The page of a comparison: one HTML file that opens from disk and asks nobody for anything.

The plots are made in the browser by Observable Plot over D3 (ISC licence), whose code is in the page: 0.5 MB. The
numbers stand in it as JSON, so what is shown is what `tamis compare --json` prints.
"""

import json
from importlib.resources import files
from string import Template
from typing import Any

from ..storage.publish import json_ready

PAGE, STYLE, SCRIPT, D3, PLOT = "comparison.html", "comparison.css", "comparison.js", "d3.min.js", "plot.min.js"


def comparison_page(comparison: dict[str, Any]) -> str:
    """Return the page."""
    names = [choice["name"] for choice in comparison["choices"]]
    data = json.dumps(json_ready(comparison), ensure_ascii=False, separators=(",", ":"))
    page = Template(installed_part(PAGE))
    return page.substitute(
        title=_escaped(f"{', '.join(names[:6])}{' …' if len(names) > 6 else ''}: compared"),
        style=installed_part(STYLE), d3=installed_part(D3), plot=installed_part(PLOT), script=installed_part(SCRIPT),
        data=data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"),
    )  # fmt: skip


def installed_part(name: str) -> str:
    """Return a file that is installed with this one."""
    return (files(__package__) / name).read_text(encoding="utf-8")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
