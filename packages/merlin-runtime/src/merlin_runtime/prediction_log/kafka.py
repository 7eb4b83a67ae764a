"""Prediction logs to a Kafka topic, by librdkafka: it batches, sends and retries in threads of its
own, and holds what was not yet delivered in memory, within bounds."""

from __future__ import annotations

import logging
from typing import Any, Callable, Dict, Optional

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from merlin_runtime.errors import UsageError
from merlin_runtime.log_lines import OnceInAWhile
from merlin_runtime.prediction_log.publisher import SinkFull
from merlin_runtime.prediction_log.settings import PublisherSettings

MAX_HELD_MESSAGES = 10_000
MAX_HELD_KBYTES = 64 * 1024

_LOG = logging.getLogger("merlin_runtime.prediction_log")


class KafkaSink:
    """Used from one thread. Nothing here waits for a broker but `flush`."""

    def __init__(self, settings: PublisherSettings) -> None:
        """Raises `UsageError` for a property that librdkafka does not know or take."""
        self._settings = settings
        self._trouble = OnceInAWhile(_LOG)
        connection: Dict[str, Any] = {
            "bootstrap.servers": settings.brokers,
            **settings.kafka_config,
            "logger": _quiet_logger(self._trouble),
            "error_cb": lambda error: self._trouble.warn(f"Kafka: {error.str()}"),
        }
        held = {
            "linger.ms": settings.linger_ms,
            "acks": settings.acks,
            "queue.buffering.max.messages": MAX_HELD_MESSAGES,
            "queue.buffering.max.kbytes": MAX_HELD_KBYTES,
        }
        try:
            self._producer = Producer({**held, **connection})
            self._admin: Optional[AdminClient] = AdminClient(connection)
        except (KafkaException, TypeError, ValueError) as error:
            raise UsageError(
                f"PUBLISHER_KAFKA_CONFIG or _BROKERS is refused: {_sentence(error)}."
            ) from None
        self._creating: Any = None

    def open(self) -> None:
        """Ask for the topic to be made; that it exists is the usual answer, and none comes while
        the brokers are away."""
        assert self._admin is not None  # noqa: S101  (opened once)
        topic = NewTopic(
            self._settings.topic,
            num_partitions=self._settings.partitions,
            replication_factor=self._settings.replication_factor,
        )
        self._creating = self._admin.create_topics([topic])[self._settings.topic]

    def send(self, message: bytes, settled: Callable[[bool], None]) -> None:
        """Hand over one message; `poll` or `flush` later call ``settled`` once, with whether it was
        delivered. Raises `SinkFull`."""
        try:
            self._producer.produce(
                self._settings.topic,
                message,
                on_delivery=lambda error, _: self._settle(error, settled),
            )
        except BufferError:
            raise SinkFull from None

    def poll(self) -> None:
        """Report what was delivered meanwhile."""
        self._producer.poll(0)
        if self._creating is not None and self._creating.done():
            self._report_topic(self._creating.exception())
            self._creating = self._admin = None

    def flush(self, seconds: float) -> None:
        """Wait for deliveries at most this long; what is not delivered then never is."""
        if self._producer.flush(seconds):
            self._producer.purge()
            self._producer.flush(0)

    def _settle(self, error: Optional[KafkaError], settled: Callable[[bool], None]) -> None:
        if error is not None:
            self._trouble.warn(f"Prediction logs are not delivered: {error.str()}")
        settled(error is None)

    def _report_topic(self, error: Optional[BaseException]) -> None:
        exists = (
            isinstance(error, KafkaException)
            and error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
        )
        if error is not None and not exists:
            self._trouble.warn(
                f"The topic {self._settings.topic} was not created, and may not exist: "
                f"{_sentence(error)}"
            )


def _sentence(error: BaseException) -> str:
    cause = error.args[0] if error.args else error
    return str(cause.str() if isinstance(cause, KafkaError) else cause).rstrip(".")


def _quiet_logger(trouble: OnceInAWhile) -> logging.Logger:
    """librdkafka says something at each attempt to connect."""
    logger = logging.getLogger("merlin_runtime.prediction_log.librdkafka")
    logger.propagate = False
    logger.handlers = [_Once(trouble)]
    return logger


class _Once(logging.Handler):
    def __init__(self, trouble: OnceInAWhile) -> None:
        super().__init__(logging.WARNING)
        self._trouble = trouble

    def emit(self, record: logging.LogRecord) -> None:
        self._trouble.warn(record.getMessage())
