"""The site of all boards: one folder that needs nothing else, written whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from msgm_bench.boards.board import BOARD_FILE
from msgm_bench.boards.pages import BoardPage, find_boards, page
from msgm_bench.errors import MsgmBenchError, PluginError, UsageError
from msgm_bench.hookspecs import Published
from msgm_bench.registry import registry
from msgm_bench.site.archive import results_archive
from msgm_bench.site.board_view import BoardView, board_view
from msgm_bench.site.method_view import method_views
from msgm_bench.site.render import assets, board_page, index_page, method_page, run_page
from msgm_bench.site.run_view import runs_of
from msgm_bench.site.samples import BoardSamples, board_samples
from msgm_bench.site.texts import file_part
from msgm_bench.storage import read_json, single_line, storage_errors, temporary_folder

INDEX, MANIFEST = "index.html", "manifest.json"
FORMAT = "msgm-bench/site@1"


@dataclass(frozen=True)
class Site:
    """A site.

    Attributes:
        files: The content of each file, by its address below the folder.
        pages: The boards that it shows.
        refused: Folders of boards that it does not show, and why.
    """

    files: Mapping[str, bytes]
    pages: Sequence[BoardPage] = ()
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(map(len, self.files.values()))


def build_site(root: Path, target: Path) -> Site:
    """Write the site of all boards of a folder, in the place of an older one.

    Args:
        root: A folder of boards, or a board.
        target: The folder of the site: new, empty, or an older site.

    Raises:
        UsageError: There is no board, or ``target`` holds other files.
        StorageError: A file cannot be written; an older site stays.
    """
    check_target(target)
    site = make_site(root)
    write_site(target, site.files)
    return site


def make_site(root: Path) -> Site:
    """The site of all boards of a folder; a board that is wrong is named and left out.

    Raises:
        UsageError: There is no board.
    """
    pages, refused = readable_pages(root)
    views = [
        board_view(built, file_part(built.folder.resolve().name), published(built))
        for built in pages
    ]
    files = {name: text.encode("utf-8") for name, text in assets().items()}
    samples = {view.name: board_samples(view.page, view.name) for view in views}
    files |= {name: text.encode("utf-8") for name, text in _pages(views, samples, refused)}
    for view in views:
        files |= {sheet.address: sheet.sheet.content for sheet in samples[view.name].sheets}
        if view.page.results:
            archive = results_archive(view.name, view.page.results)
            files[f"results/{view.name}.tar.bz2"] = archive
    files[MANIFEST] = manifest(files)
    return Site(dict(sorted(files.items())), pages, refused)


def readable_pages(root: Path) -> tuple[list[BoardPage], dict[str, str]]:
    """The boards of a folder, and the reasons of those that cannot be shown.

    Raises:
        UsageError: There is no board.
    """
    folders = find_boards(root)
    if not folders:
        raise UsageError(f"no board in {root}", f"a folder with {BOARD_FILE}, or one of such")
    pages, refused = [], {}
    for folder in folders:
        try:
            pages.append(page(folder))
        except MsgmBenchError as error:
            refused[folder.name] = error.what.replace(f"{folder}/", "").replace(str(folder), "it")
    return pages, refused


def published(built: BoardPage) -> list[Published]:
    """Values of papers that the results of a board answer, by all plugins.

    Raises:
        PluginError: A plugin answers with something else.
    """
    answers = registry().manager.hook.published_values(results=built.results)
    entries = [entry for values in reversed(answers) for entry in values]
    for entry in entries:
        if not isinstance(entry, Published):
            raise PluginError(f"published_values answers with {entry!r:.100}", "Published")
    return entries


def _pages(
    views: Sequence[BoardView], samples: Mapping[str, BoardSamples], refused: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Address and text of each page."""
    methods = list(method_views(views))
    yield INDEX, index_page(views, methods, refused)
    for view in views:
        yield f"boards/{view.name}.html", board_page(view, samples[view.name])
        for run in runs_of(view.page):
            yield f"runs/{view.name}/{file_part(run.method)}.html", run_page(view, run)
    for method in methods:
        yield f"methods/{file_part(method.name)}.html", method_page(method)


def manifest(files: Mapping[str, bytes]) -> bytes:
    """The names and SHA-256 of all files: what tells a site from other folders."""
    hashes = {name: sha256(content).hexdigest() for name, content in sorted(files.items())}
    return (json.dumps({"format": FORMAT, "files": hashes}, indent=1) + "\n").encode()


def check_target(target: Path) -> None:
    """Refuse to write into a folder that holds anything but a site.

    Raises:
        UsageError: It does.
    """
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UsageError(f"{single_line(target)} is no folder", "a new folder for the site")
    if not target.exists() or not any(target.iterdir()):
        return
    try:
        old = read_json(target / MANIFEST)
    except MsgmBenchError:
        old = None
    listed = old.get("files") if isinstance(old, dict) and old.get("format") == FORMAT else None
    own = listed if isinstance(listed, dict) else None
    names = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    others = sorted(names - {MANIFEST, *(own or ())})
    if others or own is None:
        first = others[0] if others else MANIFEST
        raise UsageError(
            f"{single_line(target)} holds {single_line(first)}, which is of no site",
            "a new or empty folder, or an older site with nothing else in it",
        )


def write_site(target: Path, files: Mapping[str, bytes]) -> None:
    """Write all files beside ``target``, and put them into its place.

    Raises:
        StorageError: One cannot be written; an older site stays.
    """
    target = target.absolute()
    with storage_errors(target), temporary_folder(target) as folder:
        new, old = folder / "new", folder / "old"
        for name, content in files.items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if target.exists():
            target.rename(old)
        new.rename(target)
        shutil.rmtree(old, ignore_errors=True)
