"""Files that are whole or absent: atomic JSON, text and npz, without pickle."""

import contextlib
import io
import json
import os
import secrets
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from snnrepro import paths
from snnrepro.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

SCHEMA = 1
"""Version of the result files that this package writes, and the newest that it reads."""


def write_json(path: Path, content: Any) -> None:
    """Writes JSON atomically: another reader, or a kill, sees the old file or the new one. Keys are sorted.

    Raises:
        UserError: the file cannot be written, or the content holds a number that is not finite.
    """
    try:
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False, default=_item)
    except (ValueError, TypeError) as error:
        raise UserError(f"{shown(path)}: cannot be stored as JSON: {error}") from None
    write_text(path, text + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file atomically.

    Raises:
        UserError: the file cannot be written.
    """
    _write(path, lambda file: file.write(text.encode()))


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes arrays atomically; the same arrays give the same bytes.

    Raises:
        UserError: the file cannot be written, or an array holds Python objects.
    """
    plain = {name: np.asarray(arrays[name]) for name in sorted(arrays)}
    for name, array in plain.items():
        if array.dtype.hasobject:
            raise UserError(f"{shown(path)}, array {name}: holds Python objects, which would need pickle")

    def fill(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in plain.items():
                content = io.BytesIO()
                np.lib.format.write_array(content, array, allow_pickle=False)
                member = zipfile.ZipInfo(f"{name}.npy")  # the date stays 1980
                member.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(member, content.getvalue())

    _write(path, fill)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically.

    Raises:
        UserError: the file cannot be written.
    """
    _write(path, lambda file: file.write(content))


def read_foreign_json(path: Path) -> Any:
    """Reads JSON that other programs have written.

    Raises:
        UserError: the file is missing, unreadable, truncated or no JSON.
    """
    try:
        return json.loads(_bytes(path), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{shown(path)}: is damaged or not JSON ({one_line(error)}); {remedy(path)}") from None


def read_json(path: Path) -> Any:
    """Reads JSON.

    Raises:
        UserError: the file is missing, unreadable, truncated, no JSON, or of a newer schema.
    """
    content = read_foreign_json(path)
    schema = content.get("schema", SCHEMA) if isinstance(content, dict) else SCHEMA
    if not isinstance(schema, int) or schema > SCHEMA:
        raise UserError(
            f"{shown(path)}, field schema: is {schema!r}, this version reads up to {SCHEMA}; update snnrepro"
        )
    return content


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Reads all arrays of a file, without pickle.

    Raises:
        UserError: the file is missing, unreadable, truncated, no npz, or holds Python objects.
    """
    content = io.BytesIO(_bytes(path))
    try:
        with zipfile.ZipFile(content) as archive:
            return {
                name.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)
                for name in archive.namelist()
            }
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{shown(path)}: is damaged or not npz ({one_line(error)}); {remedy(path)}") from None


@contextlib.contextmanager
def alone(lock: Path, what: str) -> Iterator[None]:
    """Hold a lock on a file, which says whose it is and stays. The system takes the lock from a process that ends, however it ends.

    Raises:
        UserError: another process holds it, and is at work on `what`; or the file cannot be written.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a+b", buffering=0)
    except OSError as error:
        raise UserError(f"{shown(lock.parent)}: cannot write there: {error.strerror}") from None
    with file:
        try:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        except BlockingIOError:
            whose = f"another run (process {lock.read_text()})"
            raise UserError(f"{whose} is at work on {what}; wait until it ends, or stop it") from None
        except OSError:  # a file system without locks
            pass
        yield


def remedy(path: Path) -> str:
    """What to do about a damaged file: a record took long to make, a seed file is computed again."""
    if path.parent.name != "results":
        return "delete it and run again"
    which = "it" if path.suffix == ".json" else f"it and {path.stem}.json"
    return f"restore it from git, or delete {which} and record it again"


def _write(path: Path, fill: Callable[[BinaryIO], Any]) -> None:
    """Fills a new file beside `path`, forces it to disk and renames it."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        _remove(part)
        raise UserError(f"{shown(path)}: cannot write it: {error.strerror or error}") from None
    except BaseException:
        _remove(part)
        raise


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # the folder is what failed; the first error says so


def _sync_folder(folder: Path) -> None:
    """Makes a rename survive a power cut; Windows has no such call."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{shown(path)}: cannot read it: {error.strerror or error}") from None


def _item(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} has no JSON form")


def _refuse(constant: str) -> None:
    raise ValueError(f"it holds {constant}")


def one_line(text: object) -> str:
    """A text without line breaks and control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def shown(path: Path) -> str:
    """A file's path as messages give it: from the repository's root, else from the working folder, where it lies below."""
    for folder in (paths.root(), Path.cwd()):
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    return str(path)
