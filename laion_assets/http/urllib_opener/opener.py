"""A replacement for `urllib.request.urlopen` in other programs: the same steps, over guarded connections.

No proxy of the environment is used, and no scheme but http and https is opened.
"""

import http.client
import time
import urllib.error
import urllib.request
from functools import partial
from http.client import HTTPMessage, HTTPResponse
from typing import IO, Any

from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.http.clock import Clock
from laion_assets.http.connecting import socket_rejection
from laion_assets.http.consent.content_usage import disallowed_usage
from laion_assets.http.consent.robots_tag import find_refusal
from laion_assets.http.hop import Hop
from laion_assets.http.response_policy import REDIRECTS
from laion_assets.http.urllib_opener.connection import GuardedConnection, GuardedTlsConnection, Limits
from laion_assets.http.urllib_opener.visit import Visit
from laion_assets.http.urls.guard import Guard
from laion_assets.plain_text import one_line
from laion_assets.reasons import Reason, Rejection

_MAX_DETAIL_CHARS = 200


class Request(urllib.request.Request):
    """A request that remembers the URL as it was given. Raises Rejection `invalid_url` instead of ValueError."""

    def __init__(self, url: str, **options: Any) -> None:
        self.given_url = url
        try:
            super().__init__(url, **options)
        except ValueError as error:
            raise Rejection(Reason.INVALID_URL, _plain(error)) from error


class GuardedOpener:
    """Opens requests under a policy. Thread-safe. Failures are Rejections: their text starts with the reason.

    `visits` are all tries so far, `latest` the last one of each URL.
    """

    def __init__(self, policy: FetchPolicy, guard: Guard | None = None) -> None:
        self._policy = policy
        self._stopped = False
        self.visits: list[Visit] = []
        self.latest: dict[str, Visit] = {}
        guard = guard or Guard.of(policy)
        self._director = urllib.request.OpenerDirector()
        for handler in (
            _Connect(policy, guard),
            _Redirect(policy),
            _Consent(policy),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.UnknownHandler(),
        ):
            self._director.add_handler(handler)

    def open(self, request: Request, timeout: float | None = None) -> HTTPResponse:
        """Return the response after all redirects, as `urlopen` does. Raises Rejection for every failure."""
        if self._stopped:
            raise Rejection(Reason.LOCAL_FAILURE, "not requested: the shard had already failed")
        policy = self._policy
        visit = Visit(request.given_url, Clock.start(policy.deadline_s, policy.connect_timeout_s))
        self.visits.append(visit)
        self.latest[visit.url] = visit
        request.visit = visit  # type: ignore[attr-defined]
        try:
            return self._director.open(request, timeout=timeout)
        except Exception as error:
            visit.ended = time.monotonic()
            raise _rejection_of_urllib(error, visit) from error

    def stop(self) -> None:
        """Refuse all further requests at once."""
        self._stopped = True


class _Connect(urllib.request.AbstractHTTPHandler):
    """Sends the request over a guarded connection, with the policy's User-Agent."""

    def __init__(self, policy: FetchPolicy, guard: Guard) -> None:
        super().__init__()
        self._policy = policy
        self._guard = guard

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_

    def http_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self._open(GuardedConnection, request)

    def https_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self._open(GuardedTlsConnection, request)

    def _open(self, kind: type[GuardedConnection], request: urllib.request.Request) -> HTTPResponse:
        visit: Visit = request.visit  # type: ignore[attr-defined]
        visit.hops.append(Hop(request.full_url))
        request.add_header("User-Agent", self._policy.user_agent)
        limits = Limits(self._policy, self._guard, visit)
        response: HTTPResponse = self.do_open(partial(kind, limits=limits), request)
        visit.hops[-1].status = response.status
        return response


class _Redirect(urllib.request.HTTPRedirectHandler):
    """Follows redirects as urllib does, under the clock of the first request."""

    max_redirections = 1_000  # the policy's limit ends earlier

    def __init__(self, policy: FetchPolicy) -> None:
        self._max_redirects = policy.max_redirects

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        visit: Visit = req.visit  # type: ignore[attr-defined]
        if len(visit.hops) > self._max_redirects:
            raise Rejection(Reason.TOO_MANY_REDIRECTS, f"more than {self._max_redirects} redirects")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None:
            request.visit = visit  # type: ignore[attr-defined]
        return request


class _Consent(urllib.request.BaseHandler):
    """Refuses a response whose headers opt out, before its body is read."""

    handler_order = urllib.request.HTTPErrorProcessor.handler_order + 1

    def __init__(self, policy: FetchPolicy) -> None:
        self._policy = policy

    def http_response(self, request: urllib.request.Request, response: HTTPResponse) -> HTTPResponse:
        policy, headers = self._policy, response.headers
        refused = find_refusal(
            headers.get_all("X-Robots-Tag", []),
            headers.get_all("TDM-Reservation", []),
            policy.opt_out_directives,
            policy.opt_out_tokens,
        )
        usage = disallowed_usage([", ".join(headers.get_all("Content-Usage", []))], policy.opt_out_usages)
        if refused is None and usage is not None:
            refused = f"Content-Usage: {usage}=n"
        if refused is not None:
            response.close()
            raise Rejection(Reason.OPTED_OUT, refused)
        return response

    https_response = http_response


def _rejection_of_urllib(error: Exception, visit: Visit) -> Rejection:
    """Return the reason for an error of urllib, with urllib's own text as the detail."""
    if isinstance(error, Rejection):
        return error
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return Rejection(_reason_of_status(error), _plain(error))
    if isinstance(error, urllib.error.URLError):
        if isinstance(error.reason, OSError):
            return socket_rejection(error.reason)
        unknown = "unknown url type" in str(error.reason)
        return Rejection(Reason.UNSUPPORTED_SCHEME if unknown else Reason.INVALID_URL, _plain(error.reason))
    if isinstance(error, http.client.RemoteDisconnected):
        return Rejection(Reason.CONNECTION_RESET, _plain(error))
    if isinstance(error, http.client.IncompleteRead):
        return Rejection(Reason.SHORT_BODY, _plain(error))
    if isinstance(error, OSError):
        return socket_rejection(error)
    if isinstance(error, ValueError | http.client.InvalidURL):
        return Rejection(Reason.BAD_REDIRECT if len(visit.hops) > 1 else Reason.INVALID_URL, _plain(error))
    if isinstance(error, http.client.HTTPException):
        return Rejection(Reason.BAD_RESPONSE, _plain(error))
    return Rejection(Reason.INTERNAL, type(error).__name__)


def _reason_of_status(error: urllib.error.HTTPError) -> Reason:
    """Return the reason for an HTTP status. A redirect that urllib does not follow is an HTTPError, too."""
    if error.code not in REDIRECTS:
        return Reason.of_http_status(error.code)
    if "infinite loop" in str(error.msg):
        return Reason.REDIRECT_LOOP
    return Reason.UNSUPPORTED_SCHEME if "is not allowed" in str(error.msg) else Reason.BAD_REDIRECT


def _plain(error: object) -> str:
    return one_line(" ".join(str(error).split()), _MAX_DETAIL_CHARS)
