#!/usr/bin/env bash
# Trains on TPU slices of a GKE cluster that xpk made (`xpk cluster create`); xpk writes the JobSet itself. Needs
# `pip install xpk`, the gcloud and kubectl commands, and the image of launch/Dockerfile:
#
#     export CLUSTER=pods NAME=tcm TYPE=v5litepod-256 IMAGE=REGISTRY/tcm_jax
#     launch/xpk.sh python -m tcm_jax.train --config configs/clip4str_huge.py:real --workdir gs://BUCKET/huge
#     xpk workload list --cluster "$CLUSTER"
#     xpk workload delete --cluster "$CLUSTER" --workload "$NAME"
#
# More slices: SLICES=2. Project and zone are gcloud's. The same command under a new NAME resumes.
set -euo pipefail
if (($# == 0)); then
  sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
# xpk itself restarts after 143 (evicted) and 137 (killed), with 75 also those whose peer was lost; never after an error.
# `exec`: xpk passes SIGTERM to the shell that holds the command, so that shell has to become it.
xpk workload create --cluster="${CLUSTER:?}" --workload="${NAME:?}" --tpu-type="${TYPE:?}" \
  --num-slices="${SLICES:-1}" --docker-image="${IMAGE:?}" --command="exec$(printf ' %q' "$@")" \
  --max-restarts=100 --restart-on-exit-codes=75 --termination-grace-period-seconds=120
