"""Downloads on the control machine: into the user's cache, and never without a checksum."""

import hashlib
import os
import shutil
import ssl
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from roadbed.engine.errors import OperationFailed

from .cache import remove_tree

if TYPE_CHECKING:
    import httpx

AUTHORITIES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
"""Where systems keep their certificate authorities; those of a company's proxy are there, not in certifi's list."""

_ONE_AT_A_TIME = threading.Lock()
"""Hosts are worked on at the same time and may want the same file."""


def client() -> "httpx.Client":
    """An HTTP client with the system's trust (``SSL_CERT_FILE`` first) and proxies from the environment."""
    import httpx

    chosen = os.environ.get("SSL_CERT_FILE") or next((path for path in AUTHORITIES if Path(path).exists()), None)
    verify: Any = ssl.create_default_context(cafile=chosen) if chosen else True
    return httpx.Client(verify=verify, follow_redirects=True, timeout=httpx.Timeout(30, connect=10))


def get(url: str, accept: str = "*/*") -> "httpx.Response":
    """Answer to a GET; 404 is an answer. Raises OperationFailed for no answer and for any other error."""
    import httpx

    try:
        with client() as http:
            response = http.get(url, headers={"accept": accept})
    except (httpx.HTTPError, OSError) as error:
        raise OperationFailed(f"{url}: cannot be reached: {error or type(error).__name__}") from error
    if response.status_code >= 400 and response.status_code != 404:
        raise OperationFailed(f"{url}: answered {response.status_code}")
    return response


def archive(url: str, algorithm: str, checksum: str, dest: Path, say: Callable[[str], None]) -> Path:
    """The file at ``url``, kept at ``dest``; ``checksum`` is hex of ``algorithm`` (sha256, sha512).

    A file that is there already is checked again. Raises OperationFailed when the checksum differs.
    """
    with _ONE_AT_A_TIME:
        if not dest.is_file() or _hash(dest, algorithm) != checksum:
            say(f"Downloading {url}")
            _download(url, algorithm, checksum, dest)
    return dest


def _download(url: str, algorithm: str, checksum: str, dest: Path) -> None:
    import httpx

    dest.parent.mkdir(parents=True, exist_ok=True)
    partial = dest.with_name(f".{dest.name}.{token_hex(4)}")
    try:
        with client() as http, http.stream("GET", url) as response, partial.open("wb") as file:
            response.raise_for_status()
            for piece in response.iter_bytes(1 << 20):
                file.write(piece)
        if _hash(partial, algorithm) != checksum:
            raise OperationFailed(f"{url}: the file does not have the checksum that was published for it")
        partial.replace(dest)
    except (httpx.HTTPError, OSError) as error:
        raise OperationFailed(f"{url}: was not downloaded: {error or type(error).__name__}") from error
    finally:
        partial.unlink(missing_ok=True)


def unpack(tarball: Path, dest: Path, wanted: Callable[[str], bool]) -> Path:
    """Files of ``tarball`` for whose name (without the first folder) ``wanted`` holds, in the new folder ``dest``.

    Only regular files are unpacked. Nothing is done when ``dest`` exists: it appears complete or not at all.
    """
    if dest.is_dir():
        return dest
    partial = dest.with_name(f".{dest.name}.{token_hex(4)}")
    remove_tree(partial)
    try:
        with tarfile.open(tarball) as tar:
            for member in tar:
                path = PurePosixPath(*PurePosixPath(member.name).parts[1:])
                if not member.isfile() or ".." in path.parts or not wanted(str(path)):
                    continue
                target = partial / path
                target.parent.mkdir(parents=True, exist_ok=True)
                source = tar.extractfile(member)
                assert source is not None
                with source, target.open("wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
                target.chmod(0o755 if member.mode & 0o100 else 0o644)
        _take_place(partial, dest)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise OperationFailed(f"{tarball}: was not unpacked: {error}") from error
    finally:
        remove_tree(partial)
    return dest


def _take_place(partial: Path, dest: Path) -> None:
    try:
        partial.rename(dest)
    except OSError:
        if not dest.is_dir():  # else another run was faster
            raise


def _hash(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
