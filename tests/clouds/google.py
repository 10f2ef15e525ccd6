"""Google Cloud, played beneath Google's own client, which checks every call against its schemas."""

import json
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httplib2
import yaml
from googleapiclient.discovery_cache import get_static_doc
from jsonschema import Draft202012Validator
from testfixtures import Replacer

from tests.clouds.launch import launch

MACHINES: dict[str, dict[str, Any]] = {}
OPEN_PORTS: set[str] = set()
"""That were asked for; those of the project's own network are not known here."""
DONE = {"name": "operation", "status": "DONE", "done": True}
NETWORK = [{"networkIP": "10.0.0.2", "accessConfigs": [{"natIP": "198.51.100.7"}]}]
SUBNET = "https://www.googleapis.com/compute/v1/projects/p/regions/r/subnetworks/default"


def closed(part: dict[str, Any]) -> dict[str, Any]:
    """A part of a discovery document as a JSON schema that refuses what it does not name."""
    if "$ref" in part:
        return {"$ref": f"#/$defs/{part['$ref']}"}
    kind = part["type"]
    if kind == "object" and "properties" in part:
        inner = {name: closed(value) for name, value in part["properties"].items()}
        return {"type": kind, "properties": inner, "additionalProperties": False}
    if kind == "object":
        return {"type": kind, "additionalProperties": closed(part["additionalProperties"])}
    if kind == "array":
        return {"type": kind, "items": closed(part["items"])}
    if part.get("format") in ("int64", "uint64"):
        return {"type": ["string", "integer"]}
    return {} if kind == "any" else {"type": kind} | {k: part[k] for k in ("enum",) if k in part}


def instances() -> Draft202012Validator:
    """Of what may be asked for when a machine is started."""
    schemas = json.loads(get_static_doc("compute", "v1"))["schemas"]
    parts = {name: closed(part) for name, part in schemas.items()}
    return Draft202012Validator({"$ref": "#/$defs/Instance", "$defs": parts})


INSTANCES = instances()


def served(
    method: str, path: str, wanted: str, given: dict[str, Any]
) -> tuple[int, dict[str, Any]]:
    """Status and answer of one call; ``wanted`` is the filter of a list."""
    last, parts = path.split("/")[-1], path.split("/")
    if "/firewalls" in path and method != "GET":
        ports = [port for rule in given["allowed"] for port in rule.get("ports", ["all"])]
        OPEN_PORTS.update(ports)
        return 200, DONE
    if path.endswith("/instances") and method == "POST":
        wrong = [f"{error.json_path}: {error.message}" for error in INSTANCES.iter_errors(given)]
        if wrong:
            return 400, {"error": {"message": "; ".join(wrong)}}
        state = {"status": "RUNNING", "labelFingerprint": "x", "networkInterfaces": NETWORK}
        MACHINES[given["name"]] = given | state
        return 200, DONE
    if path.endswith("/instances"):
        labels = set(re.findall(r"labels\.([\w-]+) = ([\w-]+)", wanted))
        found = [each for each in MACHINES.values() if labels <= set(each["labels"].items())]
        return 200, {"items": [each for each in found if each["status"] in wanted]}
    if "/instances/" in path and method == "DELETE":
        del MACHINES[last]
        return 200, DONE
    if path.endswith("/setLabels"):
        MACHINES[parts[-2]]["labels"] = given["labels"]
        return 200, DONE
    if "/instances/" in path:
        return (200, MACHINES[last]) if last in MACHINES else (404, {})
    if path.endswith("/subnetworks"):
        return 200, {"items": [{"selfLink": SUBNET}]}
    if path.endswith(":getIamPolicy"):
        return 200, {"bindings": []}
    if "/serviceAccounts/" in path:
        return 200, {"email": last, "projectId": parts[3]}
    if path == f"/v1/projects/{last}":
        return 200, {"lifecycleState": "ACTIVE", "projectId": last}
    if path == f"/compute/v1/projects/{last}":
        return 200, {"name": last, "commonInstanceMetadata": {}}
    return 200, DONE


def request(
    self: object, uri: str, method: str = "GET", body: str | None = None, **rest: object
) -> tuple[httplib2.Response, bytes]:
    asked = urlsplit(uri)
    wanted = "".join(parse_qs(asked.query).get("filter", []))
    status, answer = served(method, asked.path, wanted, json.loads(body) if body else {})
    head = httplib2.Response({"status": status, "content-type": "application/json"})
    return head, json.dumps(answer).encode()


def running() -> list[dict[str, Any]]:
    return [
        {
            "pool": machine["labels"]["ray-user-node-type"],
            "type": machine["machineType"].split("/")[-1],
            "market": "spot"
            if machine.get("scheduling", {}).get("provisioningModel") == "SPOT"
            else "on-demand",
            "identity": machine["serviceAccounts"][0]["email"].split("@")[0],
            "disk": machine["disks"][0]["initializeParams"]["diskSizeGb"],
            "tags": machine["labels"],
            "open_ports": sorted(OPEN_PORTS),
        }
        for machine in MACHINES.values()
    ]


def main(file: str, copy: str) -> None:
    cluster = yaml.safe_load(Path(file).read_text().replace("YOUR-PROJECT", "our-project"))
    played = {"type": "credentials_token", "credentials": "not a secret, a test"}
    cluster["provider"]["gcp_credentials"] = played
    with Replacer() as replaced:
        replaced.replace("httplib2.Http.request", request)
        launch(cluster, Path(copy), running)


if __name__ == "__main__":
    main(*sys.argv[1:])
