"""A hook of MkDocs: files of the root are pages too, and links to files of the repository are followed."""

import re
import shutil
import tomllib
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "build/package/reelmill"
"""The package in one folder, as a wheel has it, for what reads docstrings without importing."""
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}
"""Files of the repository's root, and the pages that they are."""
_LINK = re.compile(r"\]\(([^)#:\s]+)((?:#[^)\s]*)?)\)")


def on_startup(**_: object) -> None:
    """Lay the package out: its own sources, and the root folders that join it, each with an `__init__.py`."""
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    shutil.rmtree(PACKAGE, ignore_errors=True)
    for name in setup["packages"]:
        folder = ROOT.joinpath(*name.split(".")[1:])
        source, place = folder if "." in name and folder.is_dir() else ROOT / name.replace(".", "/"), PACKAGE.parent
        place = place / name.replace(".", "/")
        place.mkdir(parents=True, exist_ok=True)
        for file in source.glob("*.py"):
            shutil.copyfile(file, place / file.name)
        (place / "__init__.py").touch()


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, and each file of the repository that a page links to."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    for page in list(files.documentation_pages()):
        for target in _outside(page.src_uri, page.content_string):
            if files.get_file_from_path(target.as_posix()) is None and (ROOT / target).is_file():
                files.append(File.generated(config, target.as_posix(), abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: object, **_: object) -> str:
    """Links as they are from a page of the site."""
    place = page.file.src_uri  # type: ignore[attr-defined]
    return _LINK.sub(lambda match: f"]({_on_site(place, match[1])}{match[2]})", markdown)


def _outside(page: str, markdown: str) -> list[Path]:
    """What a page links to outside docs/, relative to the repository's root."""
    places = [_in_repository(page, match[1]) for match in _LINK.finditer(markdown)]
    return [place for place in places if place is not None and place.parts[0] != "docs"]


def _in_repository(page: str, link: str) -> Path | None:
    """Where a link leads, relative to the repository's root; None where there is nothing."""
    folder = ROOT if page in PAGES.values() else ROOT / "docs"
    place = (folder / link).resolve()
    return place.relative_to(ROOT) if place.exists() and place.is_relative_to(ROOT) else None


def _on_site(page: str, link: str) -> str:
    """A link from a page of the site; as it is where it leads nowhere, so that MkDocs complains."""
    place = _in_repository(page, link)
    if place is None:
        return link
    if place.is_relative_to("docs"):
        return place.relative_to("docs").as_posix() or "index.md"
    if (ROOT / place).is_dir():  # a folder has no page: the page that shows its files
        return {"examples": "python.md"}.get(place.as_posix(), "architecture.md")
    return PAGES.get(place.as_posix(), place.as_posix())
