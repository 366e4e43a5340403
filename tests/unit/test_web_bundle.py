"""The committed bundle of the web app: built from the sources beside it, and small.

A bundle that is not there yet skips these, but fails where CI=true.
"""

import fnmatch
import gzip
import json
import os
import shutil
from pathlib import Path
from typing import Never

import pytest

from app.config import Settings
from app.main import create_app
from tests.web_build import DIST, ROOT, WEB, hash_sources, iter_sources, run_npm

MAX_GZIPPED_BYTES = 200_000
REMEDY = "run `make web` and commit app/web"


def cannot(message: str) -> Never:
    """Skip the test, or fail it where CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture
def dist() -> Path:
    if not (DIST / "index.html").exists():
        cannot(f"there is no app/web/dist: {REMEDY}")
    return DIST


def write_sources(folder: Path) -> None:
    for name, text in {"index.html": "<p>", "src/a.ts": "1", "src/b/c.ts": "2"}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_the_hash_is_of_the_sources_names_and_bytes(tmp_path: Path) -> None:
    write_sources(tmp_path)
    first = hash_sources(tmp_path)
    for built in ("dist/index.html", "node_modules/x/index.js", ".vite/cache", "src/.a.ts.swp"):
        (tmp_path / built).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / built).write_text("built")
    assert hash_sources(tmp_path) == first

    (tmp_path / "src" / "a.ts").write_text("3")
    changed = hash_sources(tmp_path)
    (tmp_path / "src" / "a.ts").rename(tmp_path / "src" / "d.ts")
    moved = hash_sources(tmp_path)
    (tmp_path / "vite.config.ts").write_text("")
    assert len({first, changed, moved, hash_sources(tmp_path)}) == 4


def test_the_bundle_was_built_from_these_sources(dist: Path) -> None:
    assert (dist / ".sources").read_text().strip() == hash_sources(), REMEDY


def test_the_client_was_made_from_this_api() -> None:
    kept = WEB / "openapi.json"
    if not kept.exists():
        cannot(f"there is no app/web/openapi.json: {REMEDY}")
    document = create_app(Settings(_env_file=None)).openapi()
    assert json.loads(kept.read_text()) == json.loads(json.dumps(document)), REMEDY


@pytest.mark.timeout(900)
def test_building_again_gives_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    web = tmp_path / "web"
    for path in iter_sources():
        (web / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(WEB / path, web / path)
    if run_npm("ci", "--prefer-offline", "--no-audit", "--no-fund", folder=web):
        cannot("npm can't install the packages of package-lock.json")
    assert run_npm("run", "schema", folder=web) == 0
    assert run_npm("run", "build", folder=web) == 0
    schema = Path("src") / "api" / "schema.d.ts"
    assert (web / schema).read_bytes() == (WEB / schema).read_bytes(), REMEDY
    built, kept = read_all(web / "dist"), read_all(dist)
    assert sorted(built) == sorted(kept), REMEDY
    assert [name for name in built if built[name] != kept[name]] == [], REMEDY


def read_all(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".sources"
    }


def test_the_bundle_is_small(dist: Path) -> None:
    """pdf.js, which is loaded with the first page that is shown, is not counted."""
    sizes = {
        path.name: len(gzip.compress(path.read_bytes(), mtime=0))
        for path in dist.rglob("*")
        if path.suffix in (".js", ".mjs", ".css") and "pdf" not in str(path.relative_to(dist))
    }
    assert sizes
    assert sum(sizes.values()) < MAX_GZIPPED_BYTES, sizes


def test_names_in_the_bundle_change_with_their_content(dist: Path) -> None:
    """They are kept by browsers for a year."""
    assets = [path.name for path in (dist / "assets").iterdir()]
    assert assets
    assert [name for name in assets if not any(len(part) >= 8 for part in split_name(name))] == []


def split_name(name: str) -> list[str]:
    """Return what may be the hash in a name such as `index-BkVx0_-a.js`."""
    stem = Path(name).stem
    return [stem[index + 1 :] for index, letter in enumerate(stem) if letter == "-"]


def test_the_page_names_no_other_origin_and_holds_no_script(dist: Path) -> None:
    page = (dist / "index.html").read_text()
    assert "://" not in page
    assert "<style" not in page
    assert "style=" not in page
    scripts = page.split("<script")[1:]
    assert scripts
    assert all(script.partition("</script>")[0].rstrip().endswith(">") for script in scripts)


def test_the_image_holds_the_bundle_and_not_what_it_was_built_from() -> None:
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    left_out = [pattern for pattern in patterns if pattern.startswith("app/web/")]

    def is_left_out(name: str) -> bool:
        # A pattern also takes what is inside of what it names.
        parts = name.split("/")
        paths = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        return any(
            fnmatch.fnmatchcase(path, pattern) and path.count("/") == pattern.count("/")
            for path in paths
            for pattern in left_out
        )

    sources = [f"app/web/{path.as_posix()}" for path in iter_sources()]
    assert sources
    assert [path for path in sources if not is_left_out(path)] == []
    assert is_left_out("app/web/node_modules/preact/package.json")
    for kept in ("index.html", "assets/index-1.js", "pdfjs/5.6.205/cmaps/a.bcmap", "favicon.svg"):
        assert not is_left_out(f"app/web/dist/{kept}")
