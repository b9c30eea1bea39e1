# The commands of the README. Everything else is `cargo xtask`.

STATE ?= /var/lib/catamaran-demo

.PHONY: demo demo-down test check bench

demo: ## set up this machine, run a VM and a container, show the VM's console
	@integration/setup/demo up '$(STATE)'

demo-down: ## stop the demo and remove its state
	@integration/setup/demo down '$(STATE)'

test: ## set up what tests need and run them all
	@integration/setup/packages.sh
	@cargo xtask test

check: ## everything that CI checks
	@integration/setup/packages.sh
	@cargo xtask check

bench: ## benchmarks; not part of the tests
	@integration/setup/packages.sh runtime build
	@cargo run --release --package catamaran-bench -- all
