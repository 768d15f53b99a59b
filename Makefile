# The entries. Each does its own set-up on a fresh Debian machine (see tools/setup).
SHELL := /bin/bash
CARGO := PATH="$$HOME/.cargo/bin:$$PATH" cargo

.PHONY: help setup build reference lint advisories test fuzz torture reliability vm-test vm-test-long bench demo deb rpm package-lint
help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile

setup: ## compiler, OpenSSL headers and what the tests need
	@tools/setup build

build: setup ## the program as it is shipped, in target/release
	@tools/build

lint: ## formatting, clippy, shellcheck, ruff, dependencies
	@tools/setup lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	shellcheck -x $$(tools/shell-scripts)
	target/ruff/bin/ruff check -q vm-tests
	target/ruff/bin/ruff format -q --check vm-tests
	$(CARGO) deny --log-level error check bans licenses sources

advisories: ## known vulnerabilities of dependencies; fetches the RustSec database
	@tools/setup lint
	$(CARGO) deny check advisories

test: setup ## unit, golden-tree and command-line tests, and a sample of `make torture`
	$(CARGO) test --locked

torture: build ## kills, power cuts and errors at every call (root; about two hours on two cores); see docs/reliability.md
	CERTWARDEN_TORTURE=1 POWER_CASES=1000 $(CARGO) test --locked --test it -- steps:: lease_model:: power_model::
	CERTWARDEN_BIN=$(CURDIR)/target/release/certwarden $(CARGO) test --locked --test torture -- --whole
	@$(MAKE) --no-print-directory reliability

reliability: setup ## merge the results of test runs into docs/reliability.md
	@$(CARGO) xtask reliability

vm-test: setup ## the product on real kubeadm nodes under real systemd (root)
	@vm-tests/run

vm-test-long: setup ## three control planes and a worker; some thirty broken nodes diagnosed; 120 restarts (root, an hour)
	@vm-tests/run long

fuzz: setup ## every parser with ten million inputs or for ten minutes each (FUZZ_RUNS, FUZZ_SECONDS)
	@tools/setup fuzz
	@tools/fuzz

bench: setup ## speed of check, memory and wake-ups of the idle daemon, scrapes of the exporter, memory of watch with 10 000 Secrets
	@tools/bench-idle
	$(CARGO) bench --profile dev --locked --bench check --bench export --bench watch # measure what tools/build builds

reference: setup ## docs/reference from the code
	@$(CARGO) xtask manual --reference

demo: setup ## check, plan, renew, check on a kubeadm-like tree that is due in three days
	@tools/demo

deb rpm: ## the packages, in target/package; "make deb rpm" makes both
	@tools/setup package
	@tools/package $@

package-lint: ## lintian and rpmlint over what make deb rpm made; the AppArmor profile compiles
	@tools/setup package
	lintian --fail-on error,warning target/package/*.deb
	rpmlint -c packaging/rpm/rpmlint.toml --strict target/package/*.rpm
	tools/check-profile
