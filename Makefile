# One-word doors. `make rehearse` and `make test` work on a bare Debian machine with python3, make and sudo or root.
.PHONY: help setup rehearse test test-unit test-machines test-long test-faults test-mutations test-kill test-rollout test-vagrant lint bench bench-cache bench-rollout bench-deploy bench-upload build docs clean

# Compiled modules are kept: without them each test worker and each `provision` of a test compiles a thousand anew.
export PYTHONDONTWRITEBYTECODE =

help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

setup: ## Make .venv from the lock file, and install the Debian packages that rehearsals need.
	@scripts/setup

rehearse: ## Local machines to the highest phase: create, converge, converge again, verify, report.
	@scripts/setup
	@.venv/bin/provision rehearse --keep

test: ## Everything: unit tests, then tests on booted machines.
	@scripts/setup --tests
	@.venv/bin/pytest tests/unit -n 3 --dist worksteal
	@.venv/bin/pytest tests/machines -m "not kill and not faults and not mutation and not long and not rollout"

test-unit: ## The tests that need no host, without those that wait for a second or more.
	@scripts/setup --unit
	@.venv/bin/pytest tests/unit -n 3 --dist worksteal -m "not slow"

test-machines: ## The tests on booted machines.
	@scripts/setup --tests
	@.venv/bin/pytest tests/machines -m "not kill and not faults and not mutation and not long and not rollout"

test-long: ## Migrations, edge, backups: each by itself on machines of its own.
	@scripts/setup --tests
	@.venv/bin/pytest tests/machines -m long

test-faults: ## Parts of a fleet fail under constant requests, a minute each: failed requests are counted.
	@scripts/setup --tests
	@.venv/bin/pytest tests/machines -m faults -s

test-mutations: ## Each cure is taken out of a running fleet, and its proof has to turn red.
	@scripts/setup --tests
	@.venv/bin/pytest tests/machines -m mutation

test-kill: ## Converges that are killed at random moments and must recover (slow).
	@scripts/setup --tests
	@.venv/bin/pytest tests/machines -m kill -s

test-rollout: ## Deploys, rollbacks, a phase and a patch of the fleet under constant load: 0 failed (half an hour).
	@scripts/setup --tests
	@.venv/bin/pytest tests/machines -m rollout -s

lint: ## ruff, mypy --strict, shellcheck.
	@scripts/setup --unit
	@scripts/lint

test-vagrant: ## The rehearsal on virtual machines: phase1 on one, phase3 on three. Emulated, about 40 minutes.
	@scripts/setup --vagrant
	@.venv/bin/pytest tests/vagrant -s

bench: ## No-op phase1 against stock pyinfra, side by side on a machine of its own.
	@scripts/setup
	@.venv/bin/python benchmarks/noop.py

bench-cache: ## The shared cache with 100 entries beside 100 000: latencies and their ratios.
	@scripts/setup --tests
	@.venv/bin/python benchmarks/cache.py

bench-rollout: ## Failed requests of a switch: Roadbed, systemctl restart and pm2 reload on the same machine.
	@scripts/setup --tests
	@.venv/bin/python benchmarks/rollout.py

bench-deploy: ## Seconds from `provision deploy` to the switch, for 2 and for 6 instances.
	@scripts/setup --tests
	@.venv/bin/python benchmarks/deploy.py

bench-upload: ## What the release after a change of one page costs to send: bytes and files, beside the first.
	@scripts/setup --tests
	@.venv/bin/python benchmarks/upload.py

build: ## Wheel and sdist in dist/.
	@scripts/setup --unit
	@.venv/bin/python -m build -q --outdir dist .

docs: ## The documentation as a site in build/site: every link and anchor is checked, generated pages are up to date.
	@scripts/setup --unit
	@UV_PROJECT_ENVIRONMENT=.venv .venv/bin/uv sync -q --locked --inexact --group docs --python .venv/bin/python
	@scripts/docs --check
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet
	@echo "docs: build/site/index.html"

clean: ## Remove what the doors above made, the local machines included.
	@test ! -x .venv/bin/provision || .venv/bin/provision machines down --all
	@rm -rf .venv build dist report src/*.egg-info
