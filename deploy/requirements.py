"""Print the dependencies of pyproject.toml, one per line, so that an image can install them before it has the code."""

import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
print("\n".join(project["dependencies"]))
