"""Names for outputs that cannot be traced to a patient without this machine's secret salt."""

from __future__ import annotations

import hashlib
import os
import secrets

from ganwright.errors import DataError
from ganwright.files import cache_folder

SALT_VARIABLE = "GANWRIGHT_SALT"
"""Names the salt, where several machines should give equal names."""
_LENGTH = 12


def salt() -> bytes:
    """The secret salt: of the environment, or made once and kept in the cache folder, readable by its owner only.

    Raises:
        DataError: It cannot be read or written.
    """
    given = os.environ.get(SALT_VARIABLE)
    if given:
        return given.encode()
    path = cache_folder() / "salt"
    try:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            found = path.read_bytes()
            if len(found) < 32:
                raise DataError("The salt is damaged.", where=path, fix="delete it: a new one is made") from None
            return found
        with os.fdopen(descriptor, "wb") as file:
            fresh = secrets.token_bytes(32)
            file.write(fresh)
        return fresh
    except OSError as error:
        raise DataError(
            f"The salt cannot be kept: {error.strerror}.", where=path, fix=f"set {SALT_VARIABLE}"
        ) from error


def pseudonym(text: str) -> str:
    """12 hex digits for a name or number: equal for equal texts here, and telling nothing without the salt."""
    key = hashlib.blake2b(salt(), digest_size=32).digest()
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=32, key=key).hexdigest()[:_LENGTH]
