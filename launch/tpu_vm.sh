#!/usr/bin/env bash
# Trains on a Cloud TPU slice without Kubernetes. Needs the gcloud command, logged in, and a bucket that the TPU's service
# account may write; the slice is described in the environment:
#
#     export NAME=tcm ZONE=us-west4-a TYPE=v5litepod-16 VERSION=v2-alpha-tpuv5-lite SPOT=1
#     launch/tpu_vm.sh create      # requests the slice and waits until it is there
#     launch/tpu_vm.sh install     # copies the package and configs/ to every worker and installs; again after an edit
#     launch/tpu_vm.sh run python -m tcm_jax.train --config configs/clip4str_base.py:real --workdir gs://BUCKET/base
#     launch/tpu_vm.sh logs        # of worker 0, or of the worker given; Ctrl-C does not stop the run
#     launch/tpu_vm.sh stop        # SIGTERM: the run saves its state; returns when all workers have ended
#     launch/tpu_vm.sh delete      # gives the slice back
#
# The same `run` command resumes: after stop, after a worker was lost (status 75), and, when a spot slice was preempted,
# after delete, create, install. VERSION: v2-alpha-tpuv5-lite for v5e, v2-alpha-tpuv5 for v5p, v2-alpha-tpuv6e for v6e.
set -euo pipefail

usage() {
  sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

on_workers() { # WORKER COMMAND: runs it on one worker or on all
  gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker="$1" --command="$2"
}

create() {
  gcloud compute tpus queued-resources create "$NAME" --node-id="$NAME" --zone="$ZONE" \
    --accelerator-type="${TYPE:?such as v5litepod-16}" --runtime-version="${VERSION:?such as v2-alpha-tpuv5-lite}" \
    ${SPOT:+--spot}
  local state="" before=""
  while [[ $state != ACTIVE ]]; do
    state=$(gcloud compute tpus queued-resources describe "$NAME" --zone="$ZONE" --format="value(state.state)")
    [[ $state == "$before" ]] || echo "$NAME: $state"
    before=$state
    case $state in
      ACTIVE) ;;
      FAILED | SUSPENDED) exit 1 ;;
      *) sleep 30 ;;
    esac
  done
}

install() {
  local package
  package=$(mktemp --suffix=.tar.gz)
  trap 'rm -f "$package"' RETURN
  tar -C "$(dirname "$0")/.." --exclude=__pycache__ -czf "$package" pyproject.toml README.md LICENSE tcm_jax configs
  gcloud compute tpus tpu-vm scp "$package" "$NAME:tcm_jax.tar.gz" --zone="$ZONE" --worker=all
  # The image's Python may be older than the package needs; uv brings its own.
  on_workers all 'set -e
    rm -rf tcm_jax/tcm_jax tcm_jax/configs && mkdir -p tcm_jax && tar -C tcm_jax -xzf tcm_jax.tar.gz && cd tcm_jax
    python3 -m pip install --quiet --user uv
    [ -e .venv ] || python3 -m uv venv --quiet --python 3.12 .venv
    python3 -m uv pip install --quiet --python .venv/bin/python -e ".[tpu,gcs]"'
}

run() {
  (($#)) || usage
  # A closed laptop must not end the run. nohup becomes the command, so $! is the run itself, which `stop` signals.
  on_workers all "cd tcm_jax || exit 1
    if [ -e run.pid ] && kill -0 \$(cat run.pid) 2>/dev/null; then echo 'already running; stop it first' >&2; exit 1; fi
    PATH=\$PWD/.venv/bin:\$PATH nohup$(printf ' %q' "$@") >run.log 2>&1 </dev/null &
    echo \$! >run.pid"
}

logs() {
  on_workers "${1:-0}" "tail -n +1 -F tcm_jax/run.log"
}

stop() {
  on_workers all "cd tcm_jax && kill -TERM \$(cat run.pid)
    while kill -0 \$(cat run.pid) 2>/dev/null; do sleep 1; done
    tail -n 2 run.log"
}

delete() {
  gcloud compute tpus queued-resources delete "$NAME" --zone="$ZONE" --force --quiet
}

case ${1:-} in
  create | install | run | logs | stop | delete)
    : "${NAME:?name of the slice}" "${ZONE:?such as us-west4-a}"
    "$@"
    ;;
  *) usage ;;
esac
