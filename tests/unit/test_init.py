"""`provision init`: the machines of the command line, of Terraform and of Vagrant, as inventories."""

import json
import os
import sys
import time
from pathlib import Path

import pytest
import yaml

from roadbed.cli.scaffold import named
from roadbed.engine import vagrant
from roadbed.engine.errors import InventoryError
from roadbed.engine.found import Found, spread
from roadbed.engine.load import load
from roadbed.engine.played import with_logins
from roadbed.engine.terraform import hosts_of
from roadbed.machines.vagrant import folder_of

from .test_cli import provision

DATA = ("cache", "pooler", "database")


@pytest.fixture(autouse=True)
def project(tmp_path: Path) -> None:
    """The folder is that of a Next.js project."""
    (tmp_path / "package.json").write_text('{"dependencies": {"next": "16.0.0"}}')


@pytest.mark.parametrize(
    ("logins", "expected"),
    [
        (["root@192.0.2.1"], [("web-1", ())]),
        (["192.0.2.1", "192.0.2.2"], [("web-1", ("web", *DATA)), ("app-1", ("app",))]),
        (
            ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"],
            [("web-1", ("web",)), ("app-1", ("app",)), ("app-2", ("app",)), ("data-1", DATA)],
        ),
    ],
    ids=["one", "two", "four"],
)
def test_names_and_roles_of_machines(logins: list[str], expected: list[tuple[str, tuple[str, ...]]]) -> None:
    assert [(machine.name, machine.roles) for machine in named(logins)] == expected


def test_roles_for_all_or_for_none() -> None:
    machines = [Found("a", "192.0.2.1", roles=("web",)), Found("b", "192.0.2.2")]
    with pytest.raises(InventoryError, match="hosts/b/roles: has no role, and others have"):
        spread(machines)


def test_several_hosts_become_an_inventory_for_every_phase(tmp_path: Path) -> None:
    flags = [word for last in (1, 2, 3) for word in ("--host", f"admin@192.0.2.{last}")]
    done = provision(tmp_path, "init", "prod", *flags, "--domain", "shop.example.com")
    assert done.returncode == 0, done.stderr
    assert "provision check phase3 -i prod" in done.stderr
    stack = load(str(tmp_path / "inventories/prod.yml"))
    assert {name: host.address for name, host in stack.hosts.items()} == {
        "web-1": "192.0.2.1",
        "app-1": "192.0.2.2",
        "data-1": "192.0.2.3",
    }
    assert stack.ssh.user == "admin"


TERRAFORM = {
    "hosts": {
        "sensitive": False,
        "value": {
            "web-1": {"address": "192.0.2.1", "private": "10.0.0.1", "roles": ["web"], "user": "debian"},
            "app-1": {"address": "192.0.2.2", "private": "10.0.0.2", "roles": ["app"], "user": "debian"},
        },
    }
}


def test_outputs_of_terraform_become_an_inventory(tmp_path: Path) -> None:
    (tmp_path / "outputs.json").write_text(json.dumps(TERRAFORM))
    done = provision(tmp_path, "init", "prod", "--from-terraform", "outputs.json", "--domain", "shop.example.com")
    assert done.returncode == 0, done.stderr
    stack = load(str(tmp_path / "inventories/prod.yml"))
    assert stack.hosts["app-1"].private == "10.0.0.2"
    assert stack.ssh.user == "debian"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not what `terraform output -json` writes"),
        ('{"vpc": {"value": 1}}', "has no output hosts. Outputs: vpc. Add: output"),
        ('{"hosts": {"value": {"web-1": {"ip": "192.0.2.1"}}}}', "hosts/web-1: has no address"),
        ('{"hosts": {"value": {"web-1": {"address": "192.0.2.1", "role": "web"}}}}', "hosts/web-1/role: unknown key"),
    ],
)
def test_outputs_that_name_no_hosts(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "outputs.json"
    path.write_text(text)
    with pytest.raises(InventoryError) as raised:
        hosts_of(path)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from-terraform", "none.json"], "none.json cannot be read: No such file"),
        (["--from-terraform", "x", "--host", "a@192.0.2.1"], "--host and --from-terraform: choose one"),
        (["--host", "a@192.0.2.1", "--host", "b@192.0.2.2"], "--host: one user for all machines, not a and b"),
    ],
)
def test_mistakes(tmp_path: Path, words: list[str], message: str) -> None:
    done = provision(tmp_path, "init", "prod", *words, "--domain", "shop.example.com")
    assert done.returncode == 2
    assert message in done.stderr


SAYS = """\
Host web-1
  HostName {address}
  User vagrant
  Port {port}
  UserKnownHostsFile /dev/null
  StrictHostKeyChecking no
  IdentityFile {key}
  IdentitiesOnly yes

Host app-1
  HostName 192.168.56.12
  User vagrant
  Port 22
  IdentityFile {key}
"""
BASE = """\
app: {name: shop, source: ../shop, domain: shop.example.test}
ssh: {user: admin, key: ~/nobody}
hosts:
  web-1: {address: 192.168.56.11, roles: [web]}
  app-1: {address: 192.168.56.12, roles: [app]}
  app-2: {address: 192.168.56.13, roles: [app]}
"""


@pytest.fixture
def vagrant_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a Vagrantfile and two machines; `vagrant` is a program that says what Vagrant 2.3.4 says."""
    (tmp_path / "Vagrantfile").write_text("")
    (tmp_path / "inventories").mkdir()
    (tmp_path / "inventories/rehearsal.yml").write_text(BASE)
    for name in ("web-1", "app-1"):
        (tmp_path / f".vagrant/machines/{name}/virtualbox").mkdir(parents=True)
        (tmp_path / f".vagrant/machines/{name}/virtualbox/id").write_text("1")
        (tmp_path / f"key of {name}").write_text("")
    says(tmp_path, SAYS.format(address="127.0.0.1", port=2222, key=f'"{tmp_path}/key of web-1"'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def says(folder: Path, text: str) -> None:
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "config").write_text(text)
    program = folder / "bin/vagrant"
    program.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "addresses = '10.0.2.15 192.168.56.11 fe80::1'\n"
        "print(open('config').read() if sys.argv[1] == 'ssh-config' else addresses)\n"
    )
    program.chmod(0o755)


def test_inventory_of_vagrant_is_the_rehearsals_with_vagrants_keys(vagrant_folder: Path) -> None:
    stack = load("vagrant")
    assert list(stack.hosts) == ["web-1", "app-1"]
    assert str(stack.hosts["web-1"].key) == f"{vagrant_folder}/key of web-1"
    assert (stack.ssh.user, stack.ssh.key, stack.app.source) == ("vagrant", None, "../shop")


def test_on_a_mac_one_of_the_machines_builds(vagrant_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert load("vagrant").build.host == "app-1"


def test_it_is_made_anew_with_the_machines(vagrant_folder: Path) -> None:
    load("vagrant")
    path, known = vagrant_folder / "inventories/vagrant.yml", vagrant_folder / "inventories/vagrant.known_hosts"
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFBRa7F7hN1kVLPvGQkY2mDj5Nn1VjHJKXGGYzTpQm0R"
    known.write_text(f"192.168.56.11 {key}\n192.168.56.12 {key}\n")
    before = path.stat().st_mtime_ns
    load("vagrant")
    assert path.stat().st_mtime_ns == before
    anew = vagrant_folder / ".vagrant/machines/web-1/virtualbox/id"
    os.utime(anew, (time.time() + 5, time.time() + 5))
    load("vagrant")
    assert path.stat().st_mtime_ns != before
    assert known.read_text() == f"192.168.56.12 {key}\n"


def test_files_are_found_from_where_it_is_written(tmp_path: Path) -> None:
    base, path = tmp_path / "stack/inventories/rehearsal.yml", tmp_path / "state/rehearsal.yml"
    raw = yaml.safe_load(BASE) | {
        "nginx": {"tls": {"authority": "tls/ca.pem"}, "maintenance": {"page": "/srv/away.html"}}
    }
    played = with_logins(raw, [Found("web-1", "192.168.56.11", key="k")], base, path)
    assert played["nginx"]["tls"]["authority"] == "../stack/inventories/tls/ca.pem"
    assert (path.parent / played["nginx"]["maintenance"]["page"]).resolve() == Path("/srv/away.html")
    assert played["app"]["source"] == "../stack/shop"
    assert raw["nginx"]["tls"]["authority"] == "tls/ca.pem"


def test_without_the_inventory_that_it_is_made_of(vagrant_folder: Path) -> None:
    base = vagrant_folder / "inventories/rehearsal.yml"
    for text in ("hosts: [", "just text\n", "app: {}\n"):
        base.write_text(text)
        with pytest.raises(InventoryError, match=r"rehearsal\.yml: (not valid YAML|is no inventory)"):
            load("vagrant")
    base.unlink()
    with pytest.raises(InventoryError, match=r"which is not there\. .* provision init NAME --from-vagrant"):
        load("vagrant")


def test_stacks_of_the_same_name_have_machines_of_their_own(tmp_path: Path) -> None:
    one, other = (tmp_path / folder / "inventories/rehearsal.yml" for folder in ("a", "b"))
    assert folder_of(one) != folder_of(other)
    assert folder_of(one) == folder_of(one.parent / ".." / "inventories/rehearsal.yml")


def test_one_that_somebody_wrote_is_left_alone(vagrant_folder: Path) -> None:
    (vagrant_folder / "inventories/vagrant.yml").write_text(BASE)
    assert load("vagrant").ssh.user == "admin"


def test_init_finds_the_address_that_others_reach(vagrant_folder: Path) -> None:
    assert {machine.name: machine.address for machine in vagrant.found()} == {
        "web-1": "192.168.56.11",
        "app-1": "192.168.56.12",
    }


def test_without_machines(vagrant_folder: Path) -> None:
    for file in vagrant_folder.glob(".vagrant/machines/*/*/id"):
        file.unlink()
    with pytest.raises(InventoryError, match=r"Vagrant has no machine here\. Make them: vagrant up"):
        load("vagrant")


def test_a_folder_that_is_no_project_has_to_be_named(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"dependencies": {"express": "5.0.0"}}')
    words = ("init", "prod", "--host", "root@192.0.2.1", "--domain", "shop.example.com")
    done = provision(tmp_path, *words)
    assert done.returncode == 2
    assert f"--source: is required: {tmp_path} is no Next.js project. Name it: --source ../my-app" in done.stderr
    (tmp_path / "soon").mkdir()
    done = provision(tmp_path, *words, "--source", "soon")
    assert done.returncode == 0
    assert "soon is not a Next.js project yet" in done.stderr
