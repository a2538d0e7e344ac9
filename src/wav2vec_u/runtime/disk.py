"""Full disks and missing permissions, said in one line."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wav2vec_u.runtime.errors import UserError

# EFBIG is a limit on the size of files (`ulimit -f`), which ends a run as a full disk does.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EACCES, errno.EROFS, errno.EPERM)
_NO_FOLDER = (errno.ENOTDIR, errno.EEXIST)


@contextmanager
def explain_disk_errors(folder: Path) -> Iterator[None]:
    """Turn the disk's errors into `UserError`; every other error passes.

    Parameters
    ----------
    folder : Path
        Where the block writes; named where the error itself names no file.

    Raises
    ------
    UserError
        If the disk is full, writing is not permitted, or a file stands where a folder should.
    """
    try:
        yield
    except OSError as error:
        place = error.filename or folder
        if error.errno in _FULL:
            raise UserError(
                f"{folder}: the disk is full ({error.strerror}); "
                "free some space and give the same command again"
            ) from error
        if error.errno in _REFUSED:
            raise UserError(
                f"{place}: cannot be written ({error.strerror}); "
                "mend its permissions or choose another folder"
            ) from error
        if error.errno in _NO_FOLDER:
            raise UserError(f"{place}: is no folder; move it away or choose another") from error
        raise
