"""Errors as OpenAI's API writes them: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class Refusal(HTTPException):
    """A request that is not answered as asked.

    Args:
        status: HTTP status.
        message: what is wrong, and what to do.
        code: a word for programs, such as ``model_not_found``.
        param: the field of the request that is at fault.
        retry_after: seconds after which to try again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
    ):
        super().__init__(status, message, None if retry_after is None else {"Retry-After": str(retry_after)})
        self.code, self.param = code, param


FAULT = HTTPException(500, "a fault of the server; its log says more")
"""What is answered where something else went wrong than the request."""


def body_of(error: HTTPException) -> dict[str, Any]:
    """The JSON object of an error, of ours or of the framework's."""
    kind = _TYPES.get(error.status_code, "invalid_request_error" if error.status_code < 500 else "server_error")
    code, param = getattr(error, "code", None), getattr(error, "param", None)
    return {"error": {"message": error.detail, "type": kind, "param": param, "code": code}}
