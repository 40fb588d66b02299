"""What was measured, on which prompts: the identities that artefacts record."""

from exitbench.models.load import LoadedModel
from exitbench.trace.manifest import ModelIdentity, WorkloadIdentity
from exitbench.workloads import Workload

__all__ = ["model_identity", "workload_identity"]


def model_identity(loaded: LoadedModel) -> ModelIdentity:
    """Which weights they are."""
    source = loaded.source
    return ModelIdentity(
        source=source.spec,
        name=source.name,
        model_type=loaded.model.config.model_type,
        revision=source.revision,
        weights_sha256=source.weights_sha256,
        config_sha256=source.config_sha256,
        quantisation=source.quantisation,
        licence=source.licence,
    )


def workload_identity(workload: Workload) -> WorkloadIdentity:
    """Which prompts or texts they are."""
    return WorkloadIdentity(
        name=workload.name,
        version=workload.version,
        sha256=workload.sha256,
        num_samples=len(workload.samples),
        categories=workload.categories,
    )
