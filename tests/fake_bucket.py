"""Object stores of tests: gs:// is a dictionary in memory, which has objects and, as the real one, no folders."""

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class FakeStore(MemoryFileSystem):
    """What epath and fsspec find behind gs://; the objects are in `store`, "/bucket/a" -> file."""

    protocol = ("gs", "gcs")
    store: dict = {}
    pseudo_dirs: list = [""]
    uploads: list[str] = []  # in their order
    downloads: list[str] = []

    @classmethod
    def _strip_protocol(cls, path) -> str:
        return MemoryFileSystem._strip_protocol(str(path).removeprefix("gs://").removeprefix("gcs://"))

    def unstrip_protocol(self, name: str) -> str:
        return f"gs:/{self._strip_protocol(name)}"

    def exists(self, path, **_) -> bool:
        try:  # the base class takes every error for a no, that of gs:// does not
            self.info(path)
        except FileNotFoundError:
            return False
        return True

    def mkdir(self, path, create_parents=True, **_) -> None:
        pass

    def makedirs(self, path, exist_ok=False) -> None:
        pass

    def put_file(self, lpath, rpath, **arguments) -> None:
        self.uploads.append(f"gs:/{self._strip_protocol(rpath)}")
        super().put_file(lpath, rpath, **arguments)

    def get_file(self, rpath, lpath, **arguments) -> None:
        self.downloads.append(f"gs:/{self._strip_protocol(rpath)}")
        super().get_file(rpath, lpath, **arguments)


def install_empty() -> type[FakeStore]:
    """Puts an empty store behind gs://."""
    for scheme in ("gs", "gcs"):
        fsspec.register_implementation(scheme, FakeStore, clobber=True)
    for kept in (FakeStore.store, FakeStore.uploads, FakeStore.downloads):
        kept.clear()
    return FakeStore
