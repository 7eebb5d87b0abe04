"""Prometheus metrics: what is counted, the recorder, the subscriber that feeds it, and the exposition."""

from fraisier.metrics.catalogue import METRICS, MetricSpec
from fraisier.metrics.deployment import DeploymentMetrics
from fraisier.metrics.recorder import MetricsRecorder, get_metrics_recorder
from fraisier.metrics.runtime import RuntimeMetrics, measure_loop_lag, render
from fraisier.metrics.subscriber import MetricsSubscriber

__all__ = [
    "METRICS",
    "DeploymentMetrics",
    "MetricSpec",
    "MetricsRecorder",
    "MetricsSubscriber",
    "RuntimeMetrics",
    "get_metrics_recorder",
    "measure_loop_lag",
    "render",
]
