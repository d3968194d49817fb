"""The results of a board as one archive: the same bytes on every machine.

bzip2, since its one implementation packs alike everywhere; zlib has several that do not.
"""

from __future__ import annotations

import bz2
import io
import tarfile
from collections.abc import Sequence

from msgm_bench.api import Result


def results_archive(name: str, results: Sequence[Result]) -> bytes:
    """A tar.bz2 with ``NAME/METHOD-sSEED.json`` of each result, by name and without dates."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        files = {f"{r.spec.method}-s{r.spec.seed}.json": r.to_json() for r in results}
        for file, text in sorted(files.items()):
            content = text.encode("utf-8")
            member = tarfile.TarInfo(f"{name}/{file}")
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return bz2.compress(stream.getvalue(), 9)
