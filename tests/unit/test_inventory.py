"""Every mistake in an inventory is named: path, rule, way out; all at once; exit code 2."""

from collections.abc import Callable
from pathlib import Path

import pytest

from roadbed.engine.errors import InventoryError
from roadbed.engine.inventory import Inventory
from roadbed.engine.load import find, load

GOOD = """
app: {name: shop, source: ., domain: shop.example.com}
hosts:
  web-1: {address: 192.0.2.10, roles: [web]}
  app-1: {address: 192.0.2.11, private: 10.0.0.11, roles: [app]}
"""

MISTAKES = [
    ("[web]", "[wep]", "hosts/web-1/roles/0: 'wep' is not a role. Roles: web, app, cache, pooler, database, monitor"),
    ("address: 192.0.2.11", "adress: 192.0.2.11", "hosts/app-1/adress: unknown key. Did you mean address?"),
    ("address: 192.0.2.11", "adress: 192.0.2.11", "hosts/app-1/address: is required"),
    ("192.0.2.11", "192.0.2.10", "hosts/app-1/address: 192.0.2.10 is also hosts/web-1/address."),
    ("private: 10.0.0.11", "private: 192.0.2.10", "hosts/app-1/private: 192.0.2.10 is also hosts/web-1/address."),
    ("192.0.2.11", "192.0.2.311", "hosts/app-1/address: '192.0.2.311' is neither an IP address nor a DNS name."),
    (
        "192.0.2.11",
        "'fe80::1%eth0; x'",
        "hosts/app-1/address: 'fe80::1%eth0; x' is neither an IP address nor a DNS name.",
    ),
    ("app-1:", '"app-1\\n":', "hosts: 'app-1\\n' is not a host name."),
    ("roles: [app]", "roles: [web]", "hosts: no host has the role app. Add it to the roles of a host"),
    ("roles: [app]", "roles: []", "hosts/app-1/roles: has no role."),
    ("app-1:", "App_1:", "hosts: 'App_1' is not a host name."),
    ("domain: shop.example.com", "domain: Shop", "app/domain: 'Shop' is not a host name in lower case"),
    ("name: shop", "name: nginx", "app/name: 'nginx' is the name of a system user. Choose another"),
    ("name: shop", "name: Shop!", "app/name: 'Shop!' does not have the form"),
    ("source: .", "source: [1]", "app/source: "),
    ("source: .", "source: ., replicas: 99", "app/replicas: 99 is outside 1-20."),
    ("source: .", "source: ., port: 80", "app/port: "),
    ("app: {", "ap: {", "ap: unknown key. Did you mean app?"),
]


def write(folder: Path, text: str) -> str:
    path = folder / "prod.yml"
    path.write_text(text)
    return str(path)


def test_a_good_inventory_loads(tmp_path: Path) -> None:
    inventory = load(write(tmp_path, GOOD))
    assert inventory.name == "prod"
    assert inventory.with_role("web") == ["web-1"]
    assert inventory.hosts["app-1"].inside == "10.0.0.11"
    assert inventory.hosts["web-1"].inside == "192.0.2.10"


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES, ids=[new for _, new, _ in MISTAKES])
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(InventoryError) as caught:
        load(write(tmp_path, GOOD.replace(old, new)))
    assert f"  {message}" in str(caught.value)
    assert caught.value.exit_code == 2


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("name: shop", "name: Shop!").replace("[web]", "[wep]").replace("private", "privat")
    with pytest.raises(InventoryError) as caught:
        load(write(tmp_path, text))
    for part in ("app/name: ", "hosts/web-1/roles/0: ", "hosts/app-1/privat: unknown key. Did you mean private?"):
        assert part in str(caught.value)


def test_yaml_errors_have_a_line(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"prod\.yml line 3, column \d+: not valid YAML"):
        load(write(tmp_path, "app:\n  name: x\n - y\n"))


def test_a_key_stands_once(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"the key 'app-1' stands twice\. Keep one"):
        load(write(tmp_path, GOOD + "  app-1: {address: 192.0.2.12, roles: [app]}\n"))


def test_a_list_is_no_inventory(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="must be a mapping with app and hosts"):
        load(write(tmp_path, "- 1\n"))


def test_a_single_host_needs_no_roles(tmp_path: Path) -> None:
    text = "app: {name: shop, source: ., domain: shop.example.com}\nhosts: {one: {address: 192.0.2.1}}\n"
    inventory = load(write(tmp_path, text))
    assert {"web", "app"} <= set(inventory.roles_of("one"))


def test_names_paths_and_the_only_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inventories").mkdir()
    with pytest.raises(InventoryError, match=r"There is no inventory in inventories/\. Write one: provision init"):
        find("prod")
    (tmp_path / "inventories/prod.yml").write_text(GOOD)
    (tmp_path / "inventories/example.yml").write_text(GOOD)
    assert find(None) == find("prod") == Path("inventories/prod.yml")
    with pytest.raises(
        InventoryError, match=r"no file inventories/prd\.yml\. Did you mean prod\? Found: example, prod"
    ):
        find("prd")
    (tmp_path / "inventories/stage.yml").write_text(GOOD)
    with pytest.raises(InventoryError, match=r"which one\? Found: example, prod, stage"):
        find(None)


def test_the_schema_names_every_block() -> None:
    schema = Inventory.model_json_schema()
    assert set(schema["properties"]) == set(Inventory.model_fields)
    assert all("description" in value or "$ref" in value for value in schema["properties"].values())


def test_a_web_host_of_its_own_uses_every_app_host(make_context: Callable[..., object]) -> None:
    hosts = {
        "web-1": {"address": "192.0.2.1", "roles": ["web"]},
        "app-1": {"address": "192.0.2.2", "roles": ["app"]},
        "both": {"address": "192.0.2.3", "roles": ["web", "app"]},
    }
    assert make_context(hosts=hosts, name="web-1").app_hosts() == ["app-1", "both"]  # type: ignore[attr-defined]
    assert make_context(hosts=hosts, name="both").app_hosts() == ["both"]  # type: ignore[attr-defined]
