"""What goes wrong between here and a hub, in one line each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from s3router.errors import RepositoryError
from s3router.sharing.address import Address

LOG_IN = "log in with hf auth login, or set HF_TOKEN"


@contextlib.contextmanager
def explained(address: Address) -> Iterator[None]:
    """Errors of huggingface_hub in the block become a `RepositoryError` about this repository."""
    from huggingface_hub.errors import HFValidationError, HTTPError

    try:
        yield
    except RuntimeError as error:  # what uploads raise; the cause says why
        if not isinstance(error.__cause__, HTTPError | OSError):
            raise
        raise RepositoryError(_message(error.__cause__, address)) from error
    except (HTTPError, HFValidationError) as error:
        raise RepositoryError(_message(error, address)) from error
    except OSError as error:  # a full disk names itself
        if error.errno is not None:
            raise
        raise RepositoryError(_message(error, address)) from error


def _message(error: BaseException, address: Address) -> str:
    from huggingface_hub import constants, errors

    name = address.repository
    while isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{address}: not among the downloads, and HF_HUB_OFFLINE is set; unset it"
    if isinstance(error, errors.HFValidationError):
        return f"{address}: no name of a repository ({' '.join(str(error).split())}); correct it"
    if isinstance(error, errors.LocalTokenNotFoundError):
        return f"{name}: writing needs a token; {LOG_IN}"
    if isinstance(error, errors.GatedRepoError):
        return f"{name}: access has to be asked for on its page, {constants.ENDPOINT}/{name}; then {LOG_IN}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{name}: no such repository, or a private one; correct the name, or {LOG_IN}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name}: no revision {address.revision}; name a branch, a tag or a commit of it"
    if isinstance(error, errors.HfHubHTTPError):
        return f"{name}: {_answer(error.response.status_code, ' '.join((error.server_message or '').split()))}"
    why = " ".join(str(error).split()) or type(error).__name__
    return f"{name}: {constants.ENDPOINT} cannot be reached ({why}); check the network and HF_ENDPOINT, and try again"


def _answer(status: int, said: str) -> str:
    said = f" ({said})" if said else ""
    if status == 401:
        return f"the token is not valid{said}; {LOG_IN}"
    if status == 403:
        return f"the token may not do this{said}; take one that may write, or another name"
    if status in (409, 412):
        return f"it has changed meanwhile{said}; run the same command again"
    return f"the hub answered {status}{said}; try again later"
