"""The cluster's manifest and image keep the promises that their comments make; no cluster is needed to check them."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = ROOT / "cluster" / "kuberay-raycluster.yaml"
DOCKERFILE = ROOT / "infra" / "Dockerfile"
GIB = {"Gi": 1.0, "Mi": 1 / 1024}


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def spec():
    documents = list(yaml.safe_load_all(MANIFEST.read_text()))
    assert len(documents) == 1
    assert (documents[0]["apiVersion"], documents[0]["kind"]) == ("ray.io/v1", "RayCluster")
    return documents[0]["spec"]


@pytest.fixture(scope="module")
def groups(spec):
    """Head and worker groups by name."""
    return {"head": spec["headGroupSpec"]} | {group["groupName"]: group for group in spec["workerGroupSpecs"]}


def container(group):
    containers = group["template"]["spec"]["containers"]
    assert len(containers) == 1
    return containers[0]


def gib(quantity):
    number, unit = re.fullmatch(r"(\d+)(Gi|Mi)", quantity).groups()
    return int(number) * GIB[unit]


def test_ray_version_is_the_projects(spec, project):
    pin = next(d for d in project["dependencies"] if d.startswith("ray["))
    prefix = re.fullmatch(r"ray\[.*\]==(\d+\.\d+)\.\*", pin).group(1)
    assert re.fullmatch(re.escape(prefix) + r"\.\d+", spec["rayVersion"])
    constraint = re.search(r"^ray==(\S+)$", (ROOT / "infra" / "constraints.txt").read_text(), re.MULTILINE)
    assert constraint.group(1) == spec["rayVersion"]


def test_images_are_one_build_of_this_version(groups, project):
    images = {name: container(group)["image"] for name, group in groups.items()}
    assert images["head"] == images["cpu"] == f"epilm:{project['version']}-cpu"
    assert images["gpu"] == f"epilm:{project['version']}-cuda"
    told = set(re.findall(r"-t (\S+)", DOCKERFILE.read_text()))
    assert told == set(images.values())  # the Dockerfile says how to build exactly these


def test_head_runs_no_tasks_and_parameters_are_strings(groups):
    assert groups["head"]["rayStartParams"]["num-cpus"] == "0"
    for group in groups.values():
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_autoscaler_and_token(spec):
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"
    assert 60 <= spec["autoscalerOptions"]["idleTimeoutSeconds"] <= 300
    assert spec["authOptions"] == {"mode": "token"}


def test_worker_groups(spec, groups):
    assert list(groups) == ["head", "cpu", "gpu"]
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert group["maxReplicas"] > 0
    assert groups["gpu"]["minReplicas"] == groups["gpu"]["replicas"] == 0
    assert int(container(groups["gpu"])["resources"]["limits"]["nvidia.com/gpu"]) >= 1
    pod = groups["gpu"]["template"]["spec"]
    assert pod["nodeSelector"]
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
    assert "nvidia.com/gpu" not in container(groups["cpu"])["resources"]["limits"]


def test_requests_equal_limits(spec, groups):
    for resources in [container(g)["resources"] for g in groups.values()] + [spec["autoscalerOptions"]["resources"]]:
        assert resources["requests"] == resources["limits"]
        assert {"cpu", "memory"} <= set(resources["limits"])


@pytest.mark.parametrize("name", ["head", "cpu", "gpu"])
def test_object_store_fits_into_shared_memory(groups, name):
    pod = groups[name]["template"]["spec"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container(groups[name])["volumeMounts"]}
    volume = next(v for v in pod["volumes"] if v["name"] == mounts["/dev/shm"])
    assert volume["emptyDir"]["medium"] == "Memory"
    memory = gib(container(groups[name])["resources"]["limits"]["memory"])
    assert 0.3 * memory <= gib(volume["emptyDir"]["sizeLimit"]) < 0.5 * memory  # Ray's store takes 30 % of the memory


@pytest.mark.parametrize("name", ["head", "cpu", "gpu"])
def test_pods_are_not_root(groups, name):
    pod = groups[name]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f"\nUSER {pod['securityContext']['runAsUser']}\n" in DOCKERFILE.read_text()
    assert container(groups[name])["securityContext"]["allowPrivilegeEscalation"] is False


def test_dockerfile_is_pinned_and_complete():
    lines = DOCKERFILE.read_text().replace("\\\n", " ").splitlines()
    instructions = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    names = [name for name, _ in instructions]
    assert names.count("FROM") == 2
    assert all(rest.startswith("${BASE_IMAGE}") for name, rest in instructions if name == "FROM")
    assert "ENTRYPOINT" not in names
    for name, rest in instructions:
        if name == "RUN" and "pip install" in rest:
            assert "-c infra/constraints.txt" in rest
        if name == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source


def test_constraints_name_no_build_of_torch():
    """A plain version takes the CPU and the CUDA wheel alike; with ``+cpu`` the CUDA image could not be built."""
    torch = re.search(r"^torch([=><]\S+)$", (ROOT / "infra" / "constraints.txt").read_text(), re.MULTILINE)
    assert "+" not in torch.group(1)
