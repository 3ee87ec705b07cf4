"""Who a node is: in a simulation whom the server names in each round, on a network itself."""

from flwr.app import ConfigRecord, Message, RecordDict

from clients.app import _client_id
from oleander.transport.roster import plays


def asked(**records):
    return Message(RecordDict({"config": ConfigRecord({}), **records}), dst_node_id=1, message_type="train")


def test_a_simulations_node_is_the_client_that_it_is_told_to_be(task):
    assert _client_id(asked(**plays(7_331)), {"partition-id": 3}) == 7_331
    assert _client_id(asked(), {"partition-id": 3}) == 3


def test_a_networks_client_is_itself_whatever_a_server_says(task):
    assert _client_id(asked(**plays(5)), {"partition-id": 3, "mailbox": "a folder"}) == 3
