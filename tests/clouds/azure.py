"""Azure, played beneath Azure's own client; a deployment is held to its template as Azure does."""

import io
import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import yaml
from azure.core.credentials import AccessToken
from testfixtures import Replacer

from tests.clouds.launch import launch

MACHINES: dict[str, dict[str, Any]] = {}
OPEN_PORTS: set[int | str] = set()
"""By the rules of every template that was deployed; a range stays in Azure's words."""
TYPES = {
    "string": str,
    "securestring": str,
    "int": int,
    "bool": bool,
    "object": dict,
    "array": list,
}


class Signed:
    """A credential of somebody who has logged in."""

    def __init__(self, **rest: object) -> None:
        pass

    def get_token(self, *scopes: str, **rest: object) -> AccessToken:
        return AccessToken("not a secret, a test", int(time.time()) + 3600)


def refused(deployment: dict[str, Any]) -> str:
    """Why a template would not take these parameters; empty where it would.

    https://learn.microsoft.com/azure/azure-resource-manager/templates/parameters
    """
    known = deployment["template"]["parameters"]
    given = deployment["parameters"]
    missing = [name for name in known if "defaultValue" not in known[name] and name not in given]
    wrong = [
        name
        for name, value in given.items()
        if name not in known or not isinstance(value["value"], TYPES[known[name]["type"].lower()])
    ]
    return " ".join(missing + wrong)


def opened(template: dict[str, Any]) -> set[int | str]:
    """What may be reached from elsewhere, by the rules of a template's security groups."""
    rules = [
        rule["properties"]
        for part in template["resources"]
        if part["type"] == "Microsoft.Network/networkSecurityGroups"
        for rule in part["properties"]["securityRules"]
    ]
    ports = [
        port
        for rule in rules
        if (rule["direction"], rule["access"]) == ("Inbound", "Allow")
        for port in rule.get("destinationPortRanges", [rule.get("destinationPortRange")])
    ]
    return {int(port) if port.isdigit() else port for port in ports}


def machine(name: str, given: dict[str, Any], group: str) -> dict[str, Any]:
    card = {"id": f"{group}/providers/Microsoft.Network/networkInterfaces/{name}-nic"}
    return {
        "id": f"{group}/providers/Microsoft.Compute/virtualMachines/{name}",
        "name": name,
        "location": "westus2",
        "tags": given["vmTags"],
        "properties": {
            "networkProfile": {"networkInterfaces": [card]},
            "storageProfile": {"osDisk": {"name": f"{name}-disk", "createOption": "FromImage"}},
        },
        "given": given,
    }


def served(method: str, path: str, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Status and answer of one call."""
    last, parts = path.split("/")[-1], path.split("/")
    group = "/".join(parts[:5])
    if "/deployments/" in path and method == "PUT":
        why = refused(given["properties"])
        if why:
            return 400, {"error": {"code": "InvalidTemplate", "message": why}}
        OPEN_PORTS.update(opened(given["properties"]["template"]))
        if "vmName" in given["properties"]["parameters"]:
            values = {k: v["value"] for k, v in given["properties"]["parameters"].items()}
            for index in range(values["vmCount"]):
                name = f"{values['vmName']}{index}"
                MACHINES[name] = machine(name, values, group)
        outputs = {name: {"value": f"{group}/{name}"} for name in ("msi", "nsg", "subnet")}
        return 200, {"properties": {"provisioningState": "Succeeded", "outputs": outputs}}
    if path.endswith("/virtualMachines"):
        return 200, {"value": list(MACHINES.values())}
    if path.endswith("/instanceView"):
        return 200, {"statuses": [{"code": "PowerState/running"}]}
    if "/virtualMachines/" in path:
        if method == "DELETE":
            del MACHINES[last]
            return 200, {}
        if method == "PATCH":
            MACHINES[last]["tags"] = given["tags"]
        return (200, MACHINES[last]) if last in MACHINES else (404, {})
    if "/networkInterfaces/" in path:
        public = {"id": f"{group}/providers/Microsoft.Network/publicIPAddresses/{last}-ip"}
        card = {"privateIPAddress": "10.0.0.2", "publicIPAddress": public}
        return 200, {"id": path, "properties": {"ipConfigurations": [{"properties": card}]}}
    if "/publicIPAddresses/" in path:
        return 200, {"properties": {"ipAddress": "198.51.100.7"}}
    if method in ("PUT", "DELETE"):
        return 200, {"location": "westus2"}
    return (404, {}) if method == "GET" and "/providers/" in path else (200, {"value": []})


def request(
    self: object, method: str, url: str, data: str | bytes | None = None, **rest: object
) -> requests.Response:
    status, answer = served(method, urlsplit(url).path, json.loads(data) if data else {})
    response = requests.Response()
    response.status_code = status
    response.headers["Content-Type"] = "application/json"
    response.raw = io.BytesIO(json.dumps(answer).encode())
    return response


def running() -> list[dict[str, Any]]:
    return [
        {
            "pool": machine["tags"]["ray-user-node-type"],
            "type": machine["given"]["vmSize"],
            "market": machine["given"].get("priority", "on-demand").lower(),
            "identity": machine["given"]["msi"].split("/")[-1],
            "disk": machine["given"].get("osDiskSize", 0),
            "tags": machine["tags"],
            "open_ports": sorted(OPEN_PORTS, key=str),
        }
        for machine in MACHINES.values()
    ]


def main(file: str, copy: str) -> None:
    cluster = yaml.safe_load(Path(file).read_text().replace("YOUR-SUBSCRIPTION", "0-0-0"))
    with Replacer() as replaced:
        replaced.replace("requests.Session.request", request)
        replaced.replace("ray.autoscaler._private._azure.config.AzureCliCredential", Signed)
        replaced.replace(
            "ray.autoscaler._private._azure.node_provider.DefaultAzureCredential", Signed
        )
        launch(cluster, Path(copy), running)


if __name__ == "__main__":
    main(*sys.argv[1:])
