"""The command in a result as a request: parsed and never executed."""

from __future__ import annotations

import shlex

import click

from msgm_bench.cli.run import command as run_command
from msgm_bench.cli.run import specs_of_options
from msgm_bench.errors import RefusedError, shorten
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.storage import error_summary, single_line

NOT_OF_THE_RUN = ("out", "as_json", "dry_run", "spec_file", "executor", "trackers", "helper_params")


def spec_of_command(text: object) -> RunSpec:
    """The one request that ``msgm-bench run`` makes of the options in a command line.

    Raises:
        RefusedError: It is no such line: another command, a file in the place of options, an
            option that is no part of the request, a line that makes several requests.
    """
    line = single_line(text)
    try:
        program, verb, *words = shlex.split(line)
        if (program, verb) != ("msgm-bench", "run"):
            raise ValueError(f"{program} {verb}")
        with run_command.make_context("run", words) as context:
            default = click.core.ParameterSource.DEFAULT
            other = [
                name
                for name in NOT_OF_THE_RUN
                if context.get_parameter_source(name) not in (default, None)
            ]
            if other:
                raise ValueError(f"it has {other[0]}")
            values = {k: v for k, v in context.params.items() if k not in NOT_OF_THE_RUN}
            (spec,) = specs_of_options(values)
    except (ValueError, click.ClickException, click.exceptions.Exit) as error:
        raise RefusedError(
            f"its command cannot be run again: {shorten(line)!r}: {error_summary(error)}",
            "`msgm-bench run` with the options of one run",
        ) from error
    return spec
