"""Hosts and addresses as people write them: taken, or refused with what is wrong."""

from __future__ import annotations

import argparse

import pytest
from pydantic import ValidationError

from stemd.adapters.timepix3.settings import Timepix3Settings
from stemd.addresses import broker_fault, host_fault, url_fault
from stemd.client.address import Address
from stemd.config.mqtt import MqttSettings
from stemd.errors import UsageError
from stemd.virtual.argument_types import host


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("broker.lab", 'is "mqtt://broker.lab" meant?'),
        ("broker.lab:1883", 'is "mqtt://broker.lab:1883" meant?'),
        ("mqtt:broker.lab", 'is "mqtt://broker.lab" meant?'),
        ("MQTT:/broker.lab", 'is "mqtt://broker.lab" meant?'),
        ("tcp://broker:1883", "must be"),
        ("mqtt://broker:1883:1883", "port must be"),
        ("mqtt://broker:0", "port must be"),
        ("mqtt://bro ker", "without blanks"),
        (" mqtt://broker", "without blanks"),
        ("mqtt://ho\tst", "without blanks"),
        ("mqtt://one,other:1883", "'one,other' must be a name"),
        ("mqtt://[::1", "brackets"),
        ("mqtt://broker/topic", "nothing may follow"),
        ("mqtt://user@broker", "no login in the url"),
        ("mqtt://", "must be"),
    ],
)
def test_what_is_no_address_of_a_broker_is_refused_by_daemon_and_client(
    url: str, words: str
) -> None:
    assert words in broker_fault(url)
    with pytest.raises(ValidationError) as caught:
        MqttSettings(url=url)
    assert words in str(caught.value)
    with pytest.raises(UsageError) as refused:
        Address.of(url)
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("mqtt://broker", "broker", 1883),
        ("mqtts://broker.lab", "broker.lab", 8883),
        ("MQTT://Broker:1884/", "broker", 1884),
        ("mqtt://[fe80::1]:1884", "fe80::1", 1884),
        ("mqtt://a_b.example:65535", "a_b.example", 65535),
    ],
)
def test_addresses_of_brokers_are_taken(url: str, host: str, port: int) -> None:
    settings, address = MqttSettings(url=url), Address.of(url)
    assert (settings.host, settings.port) == (address.host, address.port) == (host, port)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cam:6342", "without a port"),
        ("", "a name or"),
        ("[::1]", "a name or"),
        ("http://cam", "a name or"),
        ("a b", "a name or"),
    ],
)
def test_what_can_be_no_host_is_refused(text: str, words: str) -> None:
    assert words in host_fault(text)
    with pytest.raises(argparse.ArgumentTypeError, match=words):
        host(text)


def test_an_address_of_serval_is_one() -> None:
    assert Timepix3Settings(serval_url="http://cam:8080/x").serval_url == "http://cam:8080/x"
    for url, words in (("cam:8080", 'is "http://cam:8080" meant?'), ("http://cam:99999", "port")):
        assert words in url_fault(url, ("http", "https"))
        with pytest.raises(ValidationError, match=r"port|meant"):
            Timepix3Settings(serval_url=url)


@pytest.mark.parametrize("name", ["cam..lab", ".lab", "a" * 64, "cam." + "\u00fc" * 64])
def test_a_name_that_cannot_be_looked_up_is_refused_before_somebody_tries(name: str) -> None:
    assert "1 to 63 letters" in host_fault(name)
    assert not host_fault("cam.lab.")
    assert not host_fault("m\u00fcnchen.lab")
