"""Both sides of a session, by bytes alone."""

from typing import Any

import pytest

from fedctl import errors
from fedctl.errors import Conflict, Denied, FedctlError, Unavailable, UsageError
from fedctl.messages.memory import GetAnswer, GetEpisodes, QueryEpisodes
from fedctl.model.hub import Event
from fedctl.model.principal import Principal
from fedctl.wire import codec, frames
from fedctl.wire import session as said
from fedctl.wire.session import ClientSession, ServerSession

DECODER = codec.RequestDecoder((GetEpisodes, QueryEpisodes))
WELCOME = frames.Welcome(
    version=1,
    fedctl="0",
    epoch="e",
    principal=Principal(tenant_id="acme", role="agent"),
    server_time="2026-01-01T00:00:00.000Z",
)
ANSWER = GetAnswer(episodes=[], missing=["a"], rest=[])


def pair(**options: Any) -> tuple[ClientSession, ServerSession]:
    client, server = ClientSession(), ServerSession(DECODER, **options)
    assert isinstance(server.receive(client.hello(client="test")), said.Greeted)
    assert client.receive(server.welcome(WELCOME)) == said.Welcomed(WELCOME)
    return client, server


def ask(client: ClientSession, server: ServerSession, request: Any) -> said.Asked:
    _, frame = client.call(request)
    event = server.receive(frame)
    assert isinstance(event, said.Asked)
    return event


def test_a_hello_carries_who_asks():
    server = ServerSession(DECODER)
    event = server.receive(ClientSession().hello(client="c", token="t", tenant_id="acme", agent_id="a"))
    assert isinstance(event, said.Greeted)
    assert (event.hello.token, event.hello.tenant_id, event.hello.agent_id) == ("t", "acme", "a")


def test_a_call_is_answered_by_what_the_operation_returned():
    client, server = pair()
    asked = ask(client, server, GetEpisodes(ids=["a"]))
    assert asked.request == GetEpisodes(ids=["a"])
    assert client.receive(server.answer(asked.call_id, ANSWER)) == said.Answered(1, ANSWER)


def test_answers_may_come_in_any_order():
    client, server = pair()
    first, second = ask(client, server, GetEpisodes(ids=["a"])), ask(client, server, GetEpisodes(ids=["b"]))
    assert client.receive(server.answer(second.call_id, ANSWER)) == said.Answered(2, ANSWER)
    assert client.receive(server.answer(first.call_id, ANSWER)) == said.Answered(1, ANSWER)
    assert server.in_flight == 0


@pytest.mark.parametrize("kind", list(errors.BY_CODE.values()))
def test_an_error_comes_out_as_the_class_it_went_in(kind):
    client, server = pair()
    asked = ask(client, server, GetEpisodes(ids=["a"]))
    error = kind("it went wrong", hint="do that", details={"limit": 3})
    event = client.receive(server.fail(asked.call_id, error))
    assert isinstance(event, said.CallFailed)
    assert type(event.error) is kind
    assert event.error.as_dict() == error.as_dict()


def test_an_error_of_a_newer_hub_is_a_plain_failure():
    client, server = pair()
    ask(client, server, GetEpisodes(ids=["a"]))
    event = client.receive(b'{"frame":"failed","id":1,"error":{"code":"paradox","message":"m"}}')
    assert isinstance(event, said.CallFailed)
    assert type(event.error) is errors.Failure


def test_a_bad_call_is_refused_and_the_session_goes_on():
    client, server = pair()
    _, frame = client.call(QueryEpisodes(text="x"))
    event = server.receive(frame.replace(b'"text":"x"', b'"text":5'))
    assert isinstance(event, said.Refused)
    failed = client.receive(event.reply)
    assert isinstance(failed, said.CallFailed)
    assert isinstance(failed.error, UsageError)
    assert ask(client, server, QueryEpisodes(text="x")).call_id == 2


def test_a_call_too_deep_to_read_is_refused_by_its_number_and_the_session_goes_on():
    client, server = pair()
    _, frame = client.call(QueryEpisodes(text="x"))
    event = server.receive(frame.replace(b'"x"', b"[" * 50_000))
    assert isinstance(event, said.Refused)
    assert isinstance(client.receive(event.reply), said.CallFailed)
    assert server.state == "open"


@pytest.mark.parametrize("garbage", [b"", b"\x00", b"hello", b"{}", b'{"frame":"welcome"}', b"[" * 100_000])
def test_garbage_breaks_the_session_with_a_reason(garbage):
    client, server = pair()
    event = server.receive(garbage)
    assert isinstance(event, said.Broken)
    denied = client.receive(event.reply)
    assert isinstance(denied, said.Denied)
    assert isinstance(denied.error, UsageError)
    assert (client.state, server.state) == ("closed", "closed")


@pytest.mark.parametrize(
    ("protocol", "version"), [("fedctl", 2), ("fedctl", 0), ("fedctl", 2**70), ("gossip", 1), ("x" * 9000, 1)]
)
def test_another_protocol_or_version_is_refused_naming_both(protocol, version):
    server = ServerSession(DECODER)
    event = server.receive(codec.encode(frames.Hello(protocol=protocol, version=version)))
    assert isinstance(event, said.Broken)
    assert "this side speaks fedctl 1" in event.error.message
    assert str(version) in event.error.message
    assert len(event.error.message) < 200


def test_a_hello_of_another_version_is_refused_for_its_version_whatever_else_it_holds():
    event = ServerSession(DECODER).receive(b'{"frame":"hello","protocol":"fedctl","version":7,"token":{"new":1}}')
    assert isinstance(event, said.Broken)
    assert "this side speaks fedctl 1, the other 'fedctl' 7" in event.error.message


def test_a_hello_of_this_version_must_be_right():
    event = ServerSession(DECODER).receive(b'{"frame":"hello","protocol":"fedctl","version":1,"token":{"new":1}}')
    assert isinstance(event, said.Broken)
    assert "Expected `str | null`, got `object`" in event.error.message


def test_nothing_is_taken_before_the_welcome():
    client, _ = pair()
    fresh = ServerSession(DECODER)
    _, frame = client.call(GetEpisodes(ids=["a"]))
    assert isinstance(fresh.receive(frame), said.Broken)
    greeted = ServerSession(DECODER)
    greeted.receive(ClientSession().hello())
    assert isinstance(greeted.receive(frame), said.Broken)


def test_there_is_one_hello():
    client, server = pair()
    assert isinstance(server.receive(client.hello()), said.Broken)


def test_a_number_in_flight_cannot_be_used_again():
    client, server = pair()
    _, frame = client.call(GetEpisodes(ids=["a"]))
    server.receive(frame)
    assert isinstance(server.receive(frame), said.Broken)


def test_a_number_that_was_answered_can_be_used_again():
    client, server = pair()
    _, frame = client.call(GetEpisodes(ids=["a"]))
    server.answer(server.receive(frame).call_id, ANSWER)
    assert isinstance(server.receive(frame), said.Asked)


def test_too_many_calls_at_once_are_refused_as_unavailable():
    client, server = pair(in_flight_max=2)
    for _ in range(2):
        ask(client, server, GetEpisodes(ids=["a"]))
    event = server.receive(client.call(GetEpisodes(ids=["a"]))[1])
    assert isinstance(event, said.Refused)
    assert isinstance(event.error, Unavailable)


def test_the_first_frame_is_small_and_the_later_ones_are_not():
    server = ServerSession(DECODER)
    assert server.frame_limit_bytes == 16 << 10
    assert isinstance(server.receive(b" " * (17 << 10)), said.Broken)
    client, server = pair()
    assert server.frame_limit_bytes == 4 << 20
    assert isinstance(server.receive(client.call(QueryEpisodes(text="x" * 100_000))[1]), said.Asked)
    assert isinstance(server.receive(b" " * (5 << 20)), said.Broken)


def test_a_token_too_large_for_a_hello_is_refused_where_it_is_sent():
    with pytest.raises(UsageError):
        ClientSession().hello(token="x" * (17 << 10))


def test_a_refusal_comes_out_as_the_error_it_is():
    client, server = ClientSession(), ServerSession(DECODER)
    server.receive(client.hello())
    event = client.receive(server.refuse(Denied("no", hint="ask")))
    assert isinstance(event, said.Denied)
    assert isinstance(event.error, Denied)
    assert (client.state, server.state) == ("closed", "closed")


def test_notices_stops_and_goodbyes_reach_the_other_side():
    client, server = pair()
    event = Event(seq=1, tenant_id="acme", kind="episode_stored", subject="e", detail={}, at="2026-01-01T00:00:00.000Z")
    assert client.receive(said.notice([codec.to_json(event)] * 2)) == said.Noticed([event, event])
    assert client.receive(server.stop("enough")) == said.StopAsked("enough")
    assert client.receive(server.goodbye(1001, "the hub is stopping")) == said.Left(1001, "the hub is stopping")
    assert client.state == "closed"
    assert server.receive(ClientSession().goodbye()) == said.Left(1000, "done")


def test_the_answer_to_an_abandoned_call_is_ignored():
    client, server = pair()
    asked = ask(client, server, GetEpisodes(ids=["a"]))
    client.abandon(asked.call_id)
    assert client.receive(server.answer(asked.call_id, ANSWER)) == said.Ignored()
    assert client.receive(server.fail(asked.call_id, Conflict("late"))) == said.Ignored()


def test_a_peer_that_is_no_hub_is_unavailable():
    event = ClientSession().receive(b"SSH-2.0-OpenSSH_9.2")
    assert isinstance(event, said.Denied)
    assert isinstance(event.error, Unavailable)
    assert "does not speak the fedctl protocol" in event.error.message


def test_a_hub_does_not_welcome_twice():
    client, server = pair()
    assert isinstance(client.receive(server.welcome(WELCOME)), said.Denied)


def test_an_answer_of_another_shape_fails_its_call_only():
    client, server = pair()
    asked = ask(client, server, GetEpisodes(ids=["a"]))
    event = client.receive(server.answer(asked.call_id, {"episodes": 5}))
    assert isinstance(event, said.CallFailed)
    assert isinstance(event.error, FedctlError)
    assert client.state == "open"
