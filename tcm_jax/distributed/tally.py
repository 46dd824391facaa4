from tcm_jax.distributed.multihost import local_rows, multihost_sum  # noqa: F401
from tcm_jax.records import warn_undecodable  # noqa: F401
