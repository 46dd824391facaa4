"""Launch scripts: they run for real, with the cluster's commands replaced by small ones that record their arguments."""

import os
import re
import signal
import subprocess
import time
import tomllib
from math import prod
from pathlib import Path
from runpy import run_path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
TRAIN = ("python", "-m", "tcm_jax.train", "--workdir", "a folder", "--config=x.py")


class Cluster:
    """A folder of stand-in commands that comes first on PATH, and a folder that plays the remote machine."""

    def __init__(self, folder: Path):
        self.calls_file, self.bin, self.remote = folder / "calls", folder / "bin", folder / "remote"
        self.bin.mkdir()
        self.remote.mkdir()
        self.environment = {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", "REMOTE": str(self.remote)}

    def command(self, name: str, script: str = "") -> None:
        """Adds a command that records its arguments, then runs `script`."""
        record = f"""printf '%s\\x1f' {name} "$@" >>{self.calls_file}; echo >>{self.calls_file}"""
        (self.bin / name).write_text(f"#!/usr/bin/env bash\n{record}\n{script}\n")
        (self.bin / name).chmod(0o755)

    def calls(self, name: str) -> list[list[str]]:
        lines = self.calls_file.read_text().split("\x1f\n") if self.calls_file.exists() else []
        return [words[1:] for words in (line.split("\x1f") for line in lines) if words[0] == name]

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        command = ["bash", str(LAUNCH / script), *arguments]
        env = self.environment | environment
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


@pytest.fixture
def cluster(tmp_path) -> Cluster:
    return Cluster(tmp_path)


@pytest.mark.parametrize("script", ["slurm.sbatch", "tpu_vm.sh", "xpk.sh"])
def test_a_script_is_valid_and_without_a_command_says_how_it_is_used(script, cluster):
    assert subprocess.run(["bash", "-n", LAUNCH / script]).returncode == 0
    result = cluster.run(script)
    assert result.returncode == 2
    assert script in result.stderr


@pytest.mark.parametrize("file", sorted(filter(Path.is_file, LAUNCH.iterdir())), ids=lambda path: path.name)
def test_every_recipe_and_extra_that_a_launch_file_names_exists(file):
    text = file.read_text()
    for name, variant in re.findall(r"configs/(\w+)\.py(?::(\w+))?", text):
        load_config(name, variant)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for names in re.findall(r"\.\[([a-z,]+)\]|EXTRAS=([a-z,]+)", text):
        assert set("".join(names).split(",")) <= set(extras)


# Slurm


def slurm(cluster: Cluster, srun: str, job_state: str = "RUNNING") -> dict[str, str]:
    """A job with one process: `srun` is its script; returns Slurm's variables."""
    cluster.command("srun", srun)
    cluster.command("scontrol", f'[ "$1" != show ] || echo "   JobState={job_state} Reason=None"')
    cluster.command("scancel", 'kill -TERM "$(cat "$REMOTE/pid")"')
    return {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "6"}


def requeued(cluster: Cluster) -> bool:
    return ["requeue", "7"] in cluster.calls("scontrol")


def test_slurm_starts_the_command_in_every_task(cluster):
    result = cluster.run("slurm.sbatch", *TRAIN, **slurm(cluster, "exit 0"))
    assert result.returncode == 0
    assert cluster.calls("srun") == [["--cpus-per-task=6", "--kill-on-bad-exit=0", "--wait=0", "--label", *TRAIN]]
    assert not requeued(cluster)


@pytest.mark.parametrize(
    ("status", "job_state", "restarts", "again"),
    [
        (143, "RUNNING", "0", True),  # preempted, saved in time
        (143, "RUNNING", "50", True),
        (143, "CANCELLED", "0", False),
        (75, "RUNNING", "0", True),  # another process was lost
        (134, "RUNNING", "0", True),
        (137, "RUNNING", "19", True),
        (137, "RUNNING", "20", False),
        (75, "CANCELLED", "0", False),
        (130, "RUNNING", "0", False),
        (1, "RUNNING", "0", False),
    ],
)
def test_slurm_starts_again_what_can_resume(status, job_state, restarts, again, cluster):
    variables = slurm(cluster, f"exit {status}", job_state)
    assert cluster.run("slurm.sbatch", *TRAIN, SLURM_RESTART_COUNT=restarts, **variables).returncode == status
    assert requeued(cluster) == again


def test_slurm_before_the_time_limit_lets_the_run_save_and_starts_it_again(cluster):
    save = 'trap "sleep 0.3; echo saved; exit 143" TERM; echo $$ >"$REMOTE/pid"; touch "$REMOTE/up"'
    variables = slurm(cluster, f"{save}; while :; do sleep 0.05; done")
    command = ["bash", str(LAUNCH / "slurm.sbatch"), *TRAIN]
    with subprocess.Popen(command, env=cluster.environment | variables, stdout=subprocess.PIPE, text=True) as job:
        wait_for(cluster.remote / "up")
        job.send_signal(signal.SIGUSR1)
        output, _ = job.communicate(timeout=30)
    assert job.returncode == 143
    assert output.startswith("saved\n")
    assert cluster.calls("scancel") == [["--signal=TERM", "7"]]
    assert requeued(cluster)


def test_slurm_options_give_each_process_all_gpus_of_its_node():
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", (LAUNCH / "slurm.sbatch").read_text(), re.M))
    assert options["ntasks-per-node"] == options["gpus-per-node"]
    assert "gpus-per-task" not in options
    assert options["signal"].startswith("B:USR1@")
    assert {"requeue", "open-mode"} <= set(options)


# TPU VMs

SLICE = {"NAME": "tcm", "ZONE": "z", "TYPE": "v5litepod-16", "VERSION": "v2-alpha-tpuv5-lite"}
# What gcloud is asked to do on the workers is done in the folder that plays a worker.
GCLOUD = """
case "$4" in
  ssh) for word; do [[ $word != --command=* ]] || { cd "$REMOTE"; exec bash -c "${word#--command=}"; }; done ;;
  scp) cp "$5" "$REMOTE/${6#*:}" ;;
esac
"""


def test_tpu_vm_waits_for_the_slice(cluster):
    states = cluster.remote / "states"
    states.write_text("WAITING_FOR_RESOURCES\nWAITING_FOR_RESOURCES\nACTIVE\n")
    cluster.command("gcloud", f"[[ $4 != describe ]] || {{ head -n 1 {states}; sed -i 1d {states}; }}")
    cluster.command("sleep")
    result = cluster.run("tpu_vm.sh", "create", **SLICE, SPOT="1")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "tcm: WAITING_FOR_RESOURCES\ntcm: ACTIVE\n"
    assert cluster.calls("sleep") == [["30"], ["30"]]
    created = cluster.calls("gcloud")[0]
    assert created[:5] == ["compute", "tpus", "queued-resources", "create", "tcm"]
    assert {"--accelerator-type=v5litepod-16", "--node-id=tcm", "--spot"} <= set(created)


def test_tpu_vm_a_slice_that_failed_is_an_error(cluster):
    cluster.command("gcloud", "[[ $4 != describe ]] || echo FAILED")
    assert cluster.run("tpu_vm.sh", "create", **SLICE).returncode == 1
    assert "--spot" not in cluster.calls("gcloud")[0]


def test_tpu_vm_installs_the_package_and_the_recipes(cluster):
    cluster.command("gcloud", GCLOUD)
    cluster.command("python3")
    result = cluster.run("tpu_vm.sh", "install", **SLICE)
    assert result.returncode == 0, result.stderr
    copied = cluster.remote / "tcm_jax"
    assert (copied / "tcm_jax" / "train.py").read_text() == (ROOT / "tcm_jax" / "train.py").read_text()
    assert (copied / "configs").is_dir()
    assert (copied / "pyproject.toml").is_file()
    assert cluster.calls("python3")[-1][-1] == ".[tpu,gcs]"
    assert all("--worker=all" in call for call in cluster.calls("gcloud"))


def test_tpu_vm_runs_shows_and_stops_a_run(cluster):
    cluster.command("gcloud", GCLOUD)
    folder = cluster.remote / "tcm_jax"
    folder.mkdir()
    saves = 'trap "echo saved; exit 143" TERM; echo "started with $1"; touch up; while :; do sleep 0.05; done'
    result = cluster.run("tpu_vm.sh", "run", "bash", "-c", saves, "-", "a b", **SLICE)
    assert result.returncode == 0, result.stderr
    wait_for(folder / "up")
    again = cluster.run("tpu_vm.sh", "run", "true", **SLICE)
    assert (again.returncode, again.stderr) == (1, "already running; stop it first\n")
    assert cluster.run("tpu_vm.sh", "stop", **SLICE).stdout == "started with a b\nsaved\n"


def test_tpu_vm_gives_the_slice_back(cluster):
    cluster.command("gcloud")
    assert cluster.run("tpu_vm.sh", "delete", **SLICE).returncode == 0
    assert cluster.calls("gcloud") == [
        ["compute", "tpus", "queued-resources", "delete", "tcm", "--zone=z", "--force", "--quiet"]
    ]


# GKE


def test_xpk_gets_the_command_as_one_shell_line(cluster):
    cluster.command("xpk")
    variables = {"CLUSTER": "pods", "NAME": "tcm", "TYPE": "v5litepod-16", "IMAGE": "image"}
    assert cluster.run("xpk.sh", *TRAIN, **variables).returncode == 0
    [call] = cluster.calls("xpk")
    assert call[:2] == ["workload", "create"]
    assert r"--command=exec python -m tcm_jax.train --workdir a\ folder --config=x.py" in call
    assert {"--cluster=pods", "--tpu-type=v5litepod-16", "--restart-on-exit-codes=75"} <= set(call)


@pytest.fixture(scope="module")
def jobset() -> dict:
    return yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())


def test_jobset_has_one_pod_for_each_host_of_the_slice(jobset):
    job, pod = parts(jobset)
    [container] = pod["containers"]
    chips = prod(map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")))
    resources = container["resources"]
    assert resources["requests"] == resources["limits"]
    assert job["parallelism"] == job["completions"] == chips // resources["limits"]["google.com/tpu"]
    assert job["completionMode"] == "Indexed"


def test_jobset_starts_again_except_after_an_error_of_the_run(jobset):
    job, pod = parts(jobset)
    assert job["backoffLimit"] == 0
    assert pod["restartPolicy"] == "Never"
    policy = jobset["spec"]["failurePolicy"]
    [rule] = policy["rules"]
    assert policy["maxRestarts"] > 0
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    [fatal] = job["podFailurePolicy"]["rules"]
    codes = fatal["onExitCodes"]
    assert fatal["action"] == "FailJob"
    assert codes["operator"] == "In"
    assert codes["containerName"] == pod["containers"][0]["name"]
    assert 1 in codes["values"]
    assert not {75, 137, 143} & set(codes["values"])


def test_jobset_gives_data_workers_shared_memory_and_a_run_time_to_save(jobset):
    _, pod = parts(jobset)
    [mount] = pod["containers"][0]["volumeMounts"]
    [volume] = pod["volumes"]
    assert mount == {"name": volume["name"], "mountPath": "/dev/shm"}
    assert volume["emptyDir"] == {"medium": "Memory"}
    assert pod["terminationGracePeriodSeconds"] >= 60


def test_jobset_flags_are_values_of_the_recipe(jobset):
    _, pod = parts(jobset)
    [container] = pod["containers"]
    assert container["command"] == ["python", "-m", "tcm_jax.train"]
    arguments = dict(argument.removeprefix("--").split("=", 1) for argument in container["args"])
    name, variant = arguments.pop("config").split(":")
    config = load_config(Path(name).stem, variant)
    assert arguments.pop("workdir").startswith("gs://")
    for argument in arguments:
        value = config
        for key in argument.removeprefix("config.").split("."):
            value = value[key]


def test_image_contains_what_the_package_is_built_from():
    copied = re.findall(r"^COPY (.+) \S+$", (LAUNCH / "Dockerfile").read_text(), re.M)
    sources = " ".join(copied).split()
    assert {"tcm_jax", "configs", "pyproject.toml", "README.md", "LICENSE"} == set(sources)
    assert all((ROOT / source).exists() for source in sources)


def parts(jobset: dict) -> tuple[dict, dict]:
    """The specification of the job and that of its pods."""
    [replicated] = jobset["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    return job, job["template"]["spec"]


def load_config(name: str, variant: str):
    get_config = run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"]
    return get_config(variant) if variant else get_config()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)
