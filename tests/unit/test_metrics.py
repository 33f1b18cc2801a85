"""
Tests for L{fabric.metrics}.
"""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from fabric import metrics
from fabric.metrics import Metrics


def samples(counted: Metrics) -> dict[tuple[str, frozenset[str]], float]:
    """
    Every sample of an exposition, by its name and label values in no order.
    """
    found = {}
    for family in text_string_to_metric_families(counted.exposition().decode()):
        for sample in family.samples:
            found[(sample.name, frozenset(sample.labels.values()))] = sample.value
    return found


def key(name: str, *labels: str) -> tuple[str, frozenset[str]]:
    """
    The key of one sample in L{samples}.
    """
    return name, frozenset(labels)


class MetricsTests(SynchronousTestCase):
    """
    What was observed is what Prometheus is told.
    """

    def setUp(self) -> None:
        self.metrics = Metrics()

    def test_request(self) -> None:
        """A request is in the first bucket that holds it, in the count and in the sum."""
        self.metrics.request("ec2", "RunInstances", "200", 0.003)
        self.metrics.request("ec2", "RunInstances", "200", 100.0)
        found = samples(self.metrics)
        labels = ("ec2", "RunInstances", "200")
        self.assertEqual(found[key("fabric_request_seconds_bucket", *labels, "0.0025")], 0)
        self.assertEqual(found[key("fabric_request_seconds_bucket", *labels, "0.005")], 1)
        self.assertEqual(found[key("fabric_request_seconds_bucket", *labels, "30.0")], 1)
        self.assertEqual(found[key("fabric_request_seconds_bucket", *labels, "+Inf")], 2)
        self.assertEqual(found[key("fabric_request_seconds_count", *labels)], 2)
        self.assertAlmostEqual(found[key("fabric_request_seconds_sum", *labels)], 100.003)

    def test_timings_apart(self) -> None:
        """Calls, handled messages and store round trips are metrics of their own."""
        self.metrics.call("compute", "run", "ok", 0.1)
        self.metrics.handled("compute", "run", "NotFound", 0.1)
        self.metrics.store("commit", "ok", 0.1)
        found = samples(self.metrics)
        self.assertEqual(found[key("fabric_call_seconds_count", "compute", "run", "ok")], 1)
        self.assertEqual(found[key("fabric_handled_seconds_count", "compute", "run", "NotFound")], 1)
        self.assertEqual(found[key("fabric_store_seconds_count", "commit", "ok")], 1)

    def test_levels(self) -> None:
        """A level is the one that was set last."""
        self.metrics.pool_levels({"fixed:net-1": (5, 10)})
        self.metrics.pool_levels({"fixed:net-1": (4, 10)})
        self.metrics.services_alive({"compute.node1": False})
        self.metrics.stuck("instance", 3)
        self.metrics.queue_depths({"compute.node1": 7})
        found = samples(self.metrics)
        self.assertEqual(found[key("fabric_pool_free", "fixed:net-1")], 4)
        self.assertEqual(found[key("fabric_pool_members", "fixed:net-1")], 10)
        self.assertEqual(found[key("fabric_service_alive", "compute.node1")], 0)
        self.assertEqual(found[key("fabric_stuck", "instance")], 3)
        self.assertEqual(found[key("fabric_queue_depth", "compute.node1")], 7)

    def test_gone(self) -> None:
        """What is gone, as the pool of a network that was deleted, has no level any more."""
        for names in (("a", "b"), ("b", "c")):
            self.metrics.pool_levels(dict.fromkeys(names, (5, 10)))
            self.metrics.services_alive(dict.fromkeys(names, True))
            self.metrics.queue_depths(dict.fromkeys(names, 1))
        found = samples(self.metrics)
        for level in ("pool_free", "pool_members", "service_alive", "queue_depth"):
            self.assertEqual([key(f"fabric_{level}", name) in found for name in "abc"], [False, True, True])

    def test_bounded(self) -> None:
        """However many label values come, a metric keeps a bounded number apart."""
        for number in range(metrics.MOST_CHILDREN + 10):
            self.metrics.request("ec2", str(number), "200", 0.1)
        found = samples(self.metrics)
        self.assertEqual(found[key("fabric_request_seconds_count", "other", "other", "other")], 10)

    def test_process(self) -> None:
        """The process's own CPU and memory are told too."""
        self.assertGreater(samples(self.metrics)[key("process_resident_memory_bytes")], 0)

    def test_own_registry(self) -> None:
        """Two services in one process don't count into each other."""
        self.metrics.request("ec2", "RunInstances", "200", 0.1)
        self.assertNotIn(key("fabric_request_seconds_count", "ec2", "RunInstances", "200"), samples(Metrics()))
