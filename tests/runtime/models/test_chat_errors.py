"""What goes wrong at chat hosts has our names, and no key is ever shown."""

from __future__ import annotations

import pytest

from runtime.models.base import (
    ContextExceeded,
    ModelBusy,
    ModelError,
    ModelFailed,
    ModelRefused,
    ModelUnreachable,
    StreamCut,
)
from tests.runtime.models.chat_streams import delta, said, sse, status

KEY = "sk-not-a-real-key-1234"


JSON = "content-type: application/json\r\n"
BEGUN = delta(reasoning_content="Look around you.")


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (status(429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}), ModelBusy, "slow down"),
        (status(429, {"error": {"message": "No quota.", "type": "insufficient_quota"}}), ModelRefused, "no credit"),
        (status(402, {"error": {"message": "Insufficient credits", "code": 402}}), ModelRefused, "no credit"),
        (status(400, {"error": {"message": "overdue", "code": "Arrearage"}}), ModelRefused, "no credit"),
        (status(401, {"error": f"Incorrect API key provided: {KEY}."}), ModelRefused, "PATCHWRIGHT_API_KEY"),
        (status(403, b"forbidden"), ModelRefused, "PATCHWRIGHT_API_KEY"),
        (status(404, {"error": {"message": "model 'm' not found"}}), ModelRefused, "model's name"),
        (status(400, {"error": {"message": "The maximum context length is 9"}}), ContextExceeded, "Shorten"),
        (status(400, {"message": "Range of input length should be [1, 9]"}), ContextExceeded, "Shorten"),
        (status(400, {"error": {"message": "exceeds the available context size"}}), ContextExceeded, "Shorten"),
        (status(413, b""), ContextExceeded, "Shorten"),
        (status(400, {"error": "tool_choice is not supported"}), ModelRefused, "refused again"),
        (status(302, b"", "location: http://elsewhere\r\n"), ModelRefused, "elsewhere"),
        (status(500, b"oops"), ModelFailed, "oops"),
        (status(503, {"detail": "loading"}), ModelBusy, "loading"),
        (status(529, {"error": {"type": "overloaded_error", "message": "full"}}), ModelBusy, "full"),
        (sse({"error": {"code": 502, "message": "Provider returned error"}}), ModelFailed, "Provider"),
        (sse(BEGUN, {"error": {"code": 429, "message": "limit"}} | delta("error")), ModelBusy, "limit"),
        (sse(BEGUN, {"choices": [{"error": {"code": "server_error", "message": "gone"}}]}), ModelFailed, "gone"),
        (sse(BEGUN, delta("error")), ModelFailed, "gave up"),
        (sse(BEGUN, delta("content_filter")), ModelRefused, "content filter"),
        (sse(b"data: {\"error\": \"no such thing\"}"), ModelFailed, "no such thing"),
        (sse(BEGUN, b"data: {\"choi"), StreamCut, "can't be read"),
        (sse(b"data: {\"choi"), ModelRefused, "OpenAI-compatible"),
        (sse({"hello": "world"}), ModelRefused, "OpenAI-compatible"),
        (sse({"id": KEY}), ModelRefused, "OpenAI-compatible"),
        (sse({"object": "error", "message": f"bad {KEY}", "code": 400}), ModelRefused, r"bad \*\*\*"),
        (sse(BEGUN), StreamCut, "before its finish"),
        (sse(BEGUN, done=False), StreamCut, "before its finish"),
        (sse(), StreamCut, "before its finish"),
        (status(200, b"<html>Welcome</html>", "content-type: text/html\r\n"), ModelRefused, "Welcome"),
        (status(200, {"error": {"message": "bad", "code": 400}}, JSON), ModelRefused, "bad"),
        (sse(BEGUN).replace(b"content-length: ", b"content-length: 9"), StreamCut, "broke after"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\ndata: ", StreamCut, "broke after 0"),
        (b"SSH-2.0-x\r\n\r\n", ModelUnreachable, "no HTTP"),
        (b"", ModelUnreachable, "name another model"),
    ],
)  # fmt: skip
async def test_errors_have_names_and_show_no_key(
    answer: bytes, error: type[ModelError], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(error, match=words) as raised:
        await said(answer, api_key=KEY)
    assert type(raised.value) is error
    chain: BaseException | None = raised.value
    while chain is not None:
        assert KEY not in str(chain)
        chain = chain.__cause__ or chain.__context__
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    ("head", "seconds"),
    [
        ("retry-after: 7\r\n", 7.0),
        ("retry-after: 1.5\r\n", 1.5),
        ("retry-after: Thu, 01 Jan 2015 00:00:00 GMT\r\n", 0.0),
        ("retry-after: soon\r\n", None),
        ("retry-after-ms: 250\r\nretry-after: 1\r\n", 0.25),
        ("", None),
    ],
)
async def test_how_long_to_wait(head: str, seconds: float | None) -> None:
    with pytest.raises(ModelBusy) as raised:
        await said(status(429, {"error": "wait"}, head))
    assert raised.value.retry_after == seconds
