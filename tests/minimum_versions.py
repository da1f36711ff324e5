"""Print `name==version` for each lowest version that pyproject.toml allows to users; for `make test-minimum`."""

import re
import sys
import tomllib
from pathlib import Path

TOOLS = "dev"
"""The extra of those who work on tamis: its tools are not examined, constraints.txt pins them."""


def minima(project):
    """Return the lowest version of each package by its name, of the dependencies and of the extras but the tools'."""
    extras = {name: needs for name, needs in project["optional-dependencies"].items() if name != TOOLS}
    found = {}
    for requirement in [*project["dependencies"], *(need for needs in extras.values() for need in needs)]:
        match = re.match(r"([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)", requirement)
        if match is None:
            sys.exit(f"pyproject.toml: {requirement!r} has no lowest version, expected NAME>=VERSION")
        name, version = match.groups()
        if found.setdefault(name, version) != version:
            sys.exit(f"pyproject.toml: {name} has two lowest versions, {found[name]} and {version}")
    return found


if __name__ == "__main__":
    toml = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    sys.stdout.write("".join(f"{name}=={version}\n" for name, version in minima(toml["project"]).items()))
