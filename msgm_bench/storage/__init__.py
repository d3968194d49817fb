"""Files: written whole or not at all, and read as untrusted input."""

from msgm_bench.storage.atomic import (
    atomic_write,
    copy_file,
    storage_errors,
    sweep,
    temporary_folder,
    write_text,
)
from msgm_bench.storage.leases import claim, take_lease
from msgm_bench.storage.markdown import markdown_code, markdown_text
from msgm_bench.storage.names import path_part, single_line
from msgm_bench.storage.readers import (
    MIB,
    error_summary,
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
    "atomic_write",
    "claim",
    "copy_file",
    "dump_yaml",
    "error_summary",
    "markdown_code",
    "markdown_text",
    "one_line_yaml",
    "open_regular",
    "parse_json",
    "parse_yaml",
    "path_part",
    "read_bytes",
    "read_json",
    "read_text",
    "read_yaml",
    "single_line",
    "storage_errors",
    "sweep",
    "take_lease",
    "temporary_folder",
    "write_text",
]
