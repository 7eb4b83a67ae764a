"""Where clients find things: the one place that spells URLs of models, runs and pages."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Addresses:
    """``public_url`` is what clients use, without a slash at its end; ``tracking_url`` is the
    MLflow server's, the same unless an outside one is configured."""

    public_url: str
    tracking_url: str

    @property
    def host(self) -> str:
        """Host, port and path prefix of the public URL: what stands after ``http://``."""
        parts = urlsplit(self.public_url)
        return f"{parts.netloc}{parts.path}"

    def model(self, project: str, model: str, environment: str) -> str:
        """The stable address without a scheme; an empty ``environment`` is the default one.

        Clients show it as ``http://{address}/v1/predict``.
        """
        return f"{self.host}/endpoints/{project}/{_segment(model, environment)}"

    def version(self, project: str, model: str, version: int, environment: str) -> str:
        """The address of one version; clients add ``:predict``."""
        segment = _segment(model, environment)
        return (
            f"{self.public_url}/endpoints/{project}/{segment}/versions/{version}"
            f"/v1/models/{model}-{version}"
        )

    def experiment(self, experiment_id: str) -> str:
        """Where a person looks at a model's runs."""
        return f"{self.tracking_url}/#/experiments/{experiment_id}"

    def run(self, experiment_id: str, run_id: str) -> str:
        """Where a person looks at a version's run."""
        return f"{self.experiment(experiment_id)}/runs/{run_id}"


def _segment(model: str, environment: str) -> str:
    return f"{model}@{environment}" if environment else model
