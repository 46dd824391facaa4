"""The conversion to shards as a pipeline of Apache Beam: locally, on Dataflow, Flink or Spark.

Each element is the number of a shard, which one worker makes by `make_shard`, as the processes of one machine do. No
record passes through the shuffle of the runner, and a shard that is made twice comes out the same. All machines must
reach the sources and the destination by the same paths, and have this package installed.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions

from tcm_jax.data.shards import Shard, ShardPlan, finish, make_shard
from tcm_jax.records import Source


class MakeShards(beam.DoFn):
    """Makes shards from their numbers.

    Args:
        open_source: opens the source, once in each worker; it can be pickled.
        plan: the shards to make.
    """

    def __init__(self, open_source: Callable[[], Source[Any]], plan: ShardPlan) -> None:
        self._open_source = open_source
        self._plan = plan

    def setup(self) -> None:
        """Opens the source in this worker."""
        self._source = self._open_source()

    def process(self, number: int) -> Iterator[Shard]:
        """Makes shard `number`."""
        shard = make_shard(self._source, self._plan, number, Metrics.counter("shards", "records read").inc)
        Metrics.counter("shards", "records dropped").inc(shard.dropped.total())
        yield shard


def run_pipeline(open_source: Callable[[], Source[Any]], plan: ShardPlan, options: Sequence[str]) -> None:
    """Makes all shards of `plan`, which `start` has prepared, and their manifest; returns when all is done.

    Args:
        open_source: opens the source, once in each worker; it can be pickled.
        options: of Beam and its runner, such as ["--runner=DataflowRunner", "--project=..."].
    """
    with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
        _ = (
            pipeline
            | "numbers" >> beam.Create(range(plan.shards))
            | "spread" >> beam.Reshuffle()  # otherwise one worker may take them all
            | "make" >> beam.ParDo(MakeShards(open_source, plan))
            | "gather" >> beam.combiners.ToList()
            | "manifest" >> beam.Map(lambda shards: finish(plan, shards))
        )
