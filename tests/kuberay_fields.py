"""What KubeRay's operator accepts in a RayJob and a RayCluster (ray.io/v1), as a JSON schema.

Names, types and demands are those of KubeRay's API reference, written down for the release that
clusters/kuberay.yaml asks for; pods inside are Kubernetes' own to judge. An API server prunes or
refuses what is not named here, so every level is closed.
"""

from typing import Any

SINCE = (1, 5, 1)
"""The first release of KubeRay that knows all of these fields."""

DEFINITIONS = "https://kubernetes.io/api/_definitions.json"
"""By which the schemas of Kubernetes name themselves."""

TEXT = {"type": "string"}
FLAG = {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
COUNT = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}


def kubernetes(name: str) -> dict[str, str]:
    return {"$ref": f"{DEFINITIONS}#/$defs/io.k8s.{name}"}


def closed(required: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": False,
    }


def listed(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


AUTOSCALER = closed(
    version={"enum": ["v1", "v2"]},
    idleTimeoutSeconds=COUNT,
    upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    image=TEXT,
    imagePullPolicy=TEXT,
    resources=kubernetes("api.core.v1.ResourceRequirements"),
    securityContext=kubernetes("api.core.v1.SecurityContext"),
    env=listed(kubernetes("api.core.v1.EnvVar")),
    envFrom=listed(kubernetes("api.core.v1.EnvFromSource")),
    volumeMounts=listed(kubernetes("api.core.v1.VolumeMount")),
)
GROUP = {
    "rayStartParams": TEXTS,
    "template": kubernetes("api.core.v1.PodTemplateSpec"),
    "resources": TEXTS,
    "labels": TEXTS,
}
CLUSTER = closed(
    ("headGroupSpec",),
    rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=AUTOSCALER,
    authOptions=closed(mode={"enum": ["disabled", "token"]}),
    suspend=FLAG,
    headServiceAnnotations=TEXTS,
    headGroupSpec=closed(
        ("rayStartParams", "template"),
        **GROUP,
        serviceType=TEXT,
        headService=kubernetes("api.core.v1.Service"),
        enableIngress=FLAG,
    ),
    workerGroupSpecs=listed(
        closed(
            ("groupName", "rayStartParams", "template", "minReplicas", "maxReplicas"),
            **GROUP,
            groupName=TEXT,
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            idleTimeoutSeconds=COUNT,
            numOfHosts=COUNT,
        )
    ),
)
JOB = closed(
    entrypoint=TEXT,
    runtimeEnvYAML=TEXT,
    jobId=TEXT,
    metadata=TEXTS,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    submitterPodTemplate=kubernetes("api.core.v1.PodTemplateSpec"),
    shutdownAfterJobFinishes=FLAG,
    ttlSecondsAfterFinished=COUNT,
    activeDeadlineSeconds=COUNT | {"minimum": 1},
    backoffLimit=COUNT,
    suspend=FLAG,
    entrypointNumCpus={"type": "number"},
    entrypointNumGpus={"type": "number"},
    rayClusterSpec=CLUSTER,
    clusterSelector=TEXTS,
)


def schema(kind: str) -> dict[str, Any]:
    """JSON schema of a whole object, ``RayJob`` or ``RayCluster``."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **closed(
            ("apiVersion", "kind", "metadata", "spec"),
            apiVersion={"const": "ray.io/v1"},
            kind={"const": kind},
            metadata=kubernetes("apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            spec={"RayJob": JOB, "RayCluster": CLUSTER}[kind],
        ),
    }
