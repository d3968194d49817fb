"""Slurm's commands as far as the executor uses them: jobs are processes of this machine."""

from __future__ import annotations

import os
from pathlib import Path

SBATCH = r"""#!/bin/bash
cd "$FAKE_SLURM" || exit 1
size=$(sed -n "s/^#SBATCH --array='\?0-\([0-9]*\).*/\1/p" "$1")
if [ -e refuse ] && [ "${size:-0}" -ge "$(cat refuse)" ]; then
    echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2
    echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy" >&2
    exit 1
fi
id=$(($(cat last) + 1)); echo $id > last
export SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0
if [ -z "$size" ]; then
    SLURM_JOB_ID=$id ./start $id "$1"
else
    export SLURM_ARRAY_JOB_ID=$id
    for task in $(seq 0 "$size"); do
        SLURM_ARRAY_TASK_ID=$task SLURM_JOB_ID=$((1000 * id + task)) ./start ${id}_$task "$1"
    done
fi
echo "$size" >> sizes
echo "Submitted batch job $id"
"""
START = r"""#!/bin/bash
cp "$2" scripts/$1
export -p > scripts/$1.env
bash scripts/$1 > /dev/null 2>&1 < /dev/null &
echo $! > jobs/$1
"""
SQUEUE = r"""#!/bin/bash
cd "$FAKE_SLURM" || exit 1
[ -e dead ] && { echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1; }
for job in jobs/*; do
    [ -e "$job" ] && kill -0 "$(cat "$job")" 2> /dev/null && basename "$job"
done
exit 0
"""
SRUN = r"""#!/bin/bash
while [ "${1#--}" != "$1" ]; do
    case $1 in --output | --error) shift 2 ;; *) shift ;; esac
done
exec "$@" 2> "$FAKE_SLURM/stderr"
"""
SCONTROL = r"""#!/bin/bash
cd "$FAKE_SLURM" || exit 1
if [ "$1" = requeue ]; then
    echo "$2" >> requeued
    source "scripts/$2.env"
    ./start "$2" "scripts/$2"
else
    echo "JobId=$3 JobState=FAILED Reason=None"
fi
"""
SCANCEL = r"""#!/bin/bash
cd "$FAKE_SLURM" || exit 1
echo "$1" >> cancelled
pkill -TERM -P "$(cat "jobs/$1")"
"""


def install(place: Path) -> None:
    """Write the commands, and make them those of this process."""
    commands = {
        "sbatch": SBATCH, "squeue": SQUEUE, "srun": SRUN, "scontrol": SCONTROL,
        "scancel": SCANCEL, "start": START,
    }  # fmt: skip
    for name, source in commands.items():
        (place / name).write_text(source, encoding="utf-8")
        (place / name).chmod(0o755)
    for name in ("jobs", "scripts"):
        (place / name).mkdir()
    (place / "last").write_text("0", encoding="utf-8")
    os.environ["FAKE_SLURM"] = str(place)
    os.environ["PATH"] = f"{place}{os.pathsep}{os.environ['PATH']}"
