"""The table of docs/scaling.md: the results of `tcm_jax.commands.plan` for many configs, machines and meshes.

    python -m benchmarks.plan_table --results plans.jsonl --markdown table.md
    python -m benchmarks.plan_table --results plans.jsonl --markdown table.md --only "huge.*v5e"

Every row is a process of its own and takes minutes of compilation. Rows that are in the file of results are not
compiled again, so the same command resumes where it was stopped; a row whose line is deleted is compiled anew.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tcm_jax.files import atomic_file
from tcm_jax.planning.chips import GIB

SIZES = {"v5e": ("4x4", "16x16"), "v5p": ("2x2x4", "4x8x8"), "v6e": ("4x4", "16x16")}  # 16 and 256 chips


@dataclass(frozen=True)
class Row:
    """One plan; `settings` are flags such as "mesh.fsdp=16" for `--config.mesh.fsdp=16`."""

    config: str
    topology: str
    batch_per_chip: int
    settings: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The row as text."""
        return json.dumps(asdict(self))

    def command(self, output: str) -> list[str]:
        """The command that plans it and writes the numbers to `output`."""
        flags = [f"--config=configs/{self.config}", f"--topology={self.topology}", f"--json={output}"]
        flags += [f"--batch_per_chip={self.batch_per_chip}", *(f"--config.{setting}" for setting in self.settings)]
        return [sys.executable, "-m", "tcm_jax.plan", *flags]


def rows() -> list[Row]:
    """For every model fitting meshes, on slices of 16 and of 256 chips; the largest also where it does not fit."""
    replicated, sharded = ("accumulate=1",), ("mesh.fsdp=16", "accumulate=1", "remat=full")
    everywhere = tuple(f"{chip}:{size}" for chip, sizes in SIZES.items() for size in sizes)
    recipes: list[tuple[str, int, tuple[str, ...], tuple[str, ...]]] = [
        ("clip4str_base.py:real", 64, (), everywhere),
        ("clip4str_large.py:real", 32, ("mesh.fsdp=16", "accumulate=1"), everywhere),
        ("clip4str_huge.py:real", 8, replicated, ("v5e:4x4",)),
        ("clip4str_huge.py:real", 16, replicated, ("v5e:4x4",)),
        ("clip4str_huge.py:real", 8, sharded, ("v5e:4x4", "v5e:16x16")),
        ("clip4str_huge.py:real", 32, sharded, tuple(t for t in everywhere if t != "v5e:16x16")),
        ("tcm_db.py:ic15", 4, (), everywhere),
    ]
    return [
        Row(config, topology, batch, settings)
        for config, batch, settings, topologies in recipes
        for topology in topologies
    ]


def make(row: Row) -> dict[str, Any] | None:
    """The plan of a row; None if the command failed, whose message is on stderr."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "plan.json"
        done = subprocess.run(row.command(str(output)))
        return json.loads(output.read_text()) if done.returncode in (0, 2) and output.exists() else None


def table(found: list[tuple[Row, dict[str, Any]]]) -> str:
    """The plans as a table in Markdown."""
    lines = [
        "| config | slice | mesh (data x fsdp x tensor) | batch per chip | remat | GiB per chip | TFLOP per chip "
        "| GB sent per chip | step at best | one by one | images/s |",
        "|---|---|---|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row, plan in found:
        head = [row.config.replace(".py", ""), row.topology, " x ".join(map(str, plan["mesh"].values()))]
        head += [str(row.batch_per_chip), plan["remat"]]
        if plan["memory"] is None:
            lines.append(f"| {' | '.join(head)} | does not fit: {plan['problem']} | | | | | |")
            continue
        sent = sum(size for _, size in plan["collectives"].values())
        room = f"{plan['memory']['peak'] / GIB:.1f} of {plan['capacity'] / GIB:.0f}"
        cells = [
            room if plan["fits"] else f"does not fit: {room}",
            f"{plan['flops'] / 1e12:.2f}",
            f"{sent / 1e9:.2f}",
            f"{1e3 * plan['best']:.1f} ms ({plan['bound']})",
            f"{1e3 * plan['serial']:.1f} ms",
            f"{plan['images_per_second_serial']:,.0f} .. {plan['images_per_second_best']:,.0f}",
        ]
        lines.append(f"| {' | '.join([*head, *cells])} |")
    return "\n".join(lines)


def efficiency(found: list[tuple[Row, dict[str, Any]]]) -> str:
    """Images per second and chip on the large slice as a share of those on the small one, as a table in Markdown."""
    lines = ["| config | settings | chip | all overlaps | nothing overlaps |", "|---|---|---|---:|---:|"]
    plans = {row: plan for row, plan in found if plan["best"]}
    for row, small in plans.items():
        chip, _, size = row.topology.partition(":")
        if size != SIZES[chip][0]:
            continue
        large = plans.get(Row(row.config, f"{chip}:{SIZES[chip][1]}", row.batch_per_chip, row.settings))
        if large:
            shares = [f"{small[name] / large[name]:.1%}" for name in ("best", "serial")]  # the batch per chip is equal
            settings = ", ".join(row.settings) or "data parallel"
            lines.append(f"| {row.config.replace('.py', '')} | {settings} | {chip} | {' | '.join(shares)} |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="JSON lines, one for each row; grows")
    parser.add_argument("--markdown", type=Path, required=True, help="file for the tables")
    parser.add_argument("--only", default="", help="regular expression: rows to compile now")
    options = parser.parse_args()
    lines = options.results.read_text().splitlines() if options.results.exists() else []
    known = {json.dumps(entry["row"]): entry["plan"] for entry in map(json.loads, lines)}
    wanted = rows()
    for row in wanted:
        if row.key in known or not re.search(options.only, row.key):
            continue
        plan = make(row)
        if plan is not None:
            known[row.key] = plan
            with options.results.open("a") as file:
                file.write(json.dumps({"row": asdict(row), "plan": plan}) + "\n")
    found = [(row, known[row.key]) for row in wanted if row.key in known]
    with atomic_file(options.markdown) as file:
        file.write(table(found) + "\n\n" + efficiency(found) + "\n")
    print(f"{options.markdown}: {len(found)} of {len(wanted)} rows")


if __name__ == "__main__":
    main()
