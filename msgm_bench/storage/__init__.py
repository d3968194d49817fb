"""Files: written whole or not at all, and read as untrusted input."""

from msgm_bench.storage.atomic import atomic, explained, sweep, temporary_folder, write_text
from msgm_bench.storage.leases import claim, take_lease
from msgm_bench.storage.markdown import page_code, page_text
from msgm_bench.storage.names import path_part, single_line
from msgm_bench.storage.readers import (
    MIB,
    in_short,
    open_regular,
    parse_json,
    parse_yaml,
    read_bytes,
    read_json,
    read_text,
    read_yaml,
)
from msgm_bench.storage.yaml_text import dump_yaml, one_line_yaml

__all__ = [
    "MIB",
    "atomic",
    "claim",
    "dump_yaml",
    "explained",
    "in_short",
    "one_line_yaml",
    "open_regular",
    "page_code",
    "page_text",
    "parse_json",
    "parse_yaml",
    "path_part",
    "read_bytes",
    "read_json",
    "read_text",
    "read_yaml",
    "single_line",
    "sweep",
    "take_lease",
    "temporary_folder",
    "write_text",
]
