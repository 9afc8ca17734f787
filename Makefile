# Needs make and Python 3.11 or later. Everything else is installed into .tools/ and .venv/.

# renovate: datasource=pypi depName=uv
UV_VERSION := 0.13.9
# renovate: datasource=go depName=github.com/stripe/stripe-mock extractVersion=^v(?<version>.+)$
STRIPE_MOCK_VERSION := 0.197.0
# renovate: datasource=go depName=helm.sh/helm/v4 extractVersion=^v(?<version>.+)$
HELM_VERSION := 4.3.1
# renovate: datasource=go depName=helm.sh/helm/v3 extractVersion=^v(?<version>.+)$
HELM3_VERSION := 3.22.0
# renovate: datasource=go depName=sigs.k8s.io/kustomize/kustomize/v5 extractVersion=^v(?<version>.+)$
KUSTOMIZE_VERSION := 5.8.1
# renovate: datasource=go depName=github.com/yannh/kubeconform extractVersion=^v(?<version>.+)$
KUBECONFORM_VERSION := 0.8.0
# renovate: datasource=go depName=github.com/norwoodj/helm-docs extractVersion=^v(?<version>.+)$
HELM_DOCS_VERSION := 1.14.2
# renovate: datasource=go depName=github.com/rhysd/actionlint extractVersion=^v(?<version>.+)$
ACTIONLINT_VERSION := 1.7.12
# renovate: datasource=go depName=github.com/zegl/kube-score extractVersion=^v(?<version>.+)$
KUBE_SCORE_VERSION := 1.20.0
# The Kubernetes version whose schemas kubeconform checks the chart against.
# renovate: datasource=github-releases depName=kubernetes/kubernetes extractVersion=^v(?<version>.+)$
KUBERNETES_VERSION := 1.37.2
PORT ?= 8000
# More jobs than cores, because most tests wait for a worker.
JOBS ?= 4
BASE_URL ?= http://127.0.0.1:8000
N ?= 1000000

UV := .tools/bin/uv
RUN := .venv/bin/python
BENCH := .tools/bench/bin/python
BENCH_DJANGO6 := .tools/bench-django6/installed
STRIPE_MOCK := .tools/stripe-mock-$(STRIPE_MOCK_VERSION)/stripe-mock
HELM := .tools/helm-$(HELM_VERSION)/helm
HELM3 := .tools/helm-$(HELM3_VERSION)/helm
KUSTOMIZE := .tools/kustomize-$(KUSTOMIZE_VERSION)/kustomize
KUBECONFORM := .tools/kubeconform-$(KUBECONFORM_VERSION)/kubeconform
HELM_DOCS := .tools/helm-docs-$(HELM_DOCS_VERSION)/helm-docs
ACTIONLINT := .tools/actionlint-$(ACTIONLINT_VERSION)/actionlint
KUBE_SCORE := .tools/kube-score-$(KUBE_SCORE_VERSION)/kube-score
GO_TOOLS := $(STRIPE_MOCK) $(HELM) $(HELM3) $(KUSTOMIZE) $(KUBECONFORM) $(HELM_DOCS) $(ACTIONLINT) $(KUBE_SCORE)

# Use the installed interpreter.
export UV_PYTHON_DOWNLOADS := never
# Use the system's certificates, as pip does, so that uv works behind a company's proxy.
export UV_SYSTEM_CERTS ?= true
unexport VIRTUAL_ENV UV_PROJECT_ENVIRONMENT
# With this variable set, each process would compile Django, Celery and every other library again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: limits limits-mutations unique unique-mutations help up shell psql demo test test-matrix test-unit api-fuzz audit release-files e2e e2e-autoscale e2e-mailing e2e-scaling chaos failover reliability reliability-bundles reliability-fanout reliability-stock reliability-mutations odd odd-mutations celery-suite django-tasks-suite backlog soak bench bench-fanout bench-flow bench-ledger bench-operations bench-retention screenshots lint format update verify install install-local clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-21s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: install-local ## Start everything on this machine, until Ctrl-C (PORT=8000, EXPORTER_PORT=, VAR_DIR=var)
	@PORT=$(PORT) exec $(RUN) -m app.local.up

shell: install-local ## Open Django's shell beside `make up`
	@exec $(RUN) -m app.local.beside shell

psql: install-local ## Open psql on the database of `make up`
	@exec $(RUN) -m app.local.beside psql

demo: install-local ## Publish to an author's 1,000 subscribers over HTTP and watch it happen (BASE_URL=http://127.0.0.1:8000)
	@$(RUN) -P app/local/demo.py $(BASE_URL)

test: install $(GO_TOOLS) ## Run all tests with their own PostgreSQL and Valkey (JOBS=4 at a time, ARGS="-k name")
	@$(RUN) -m tests.support.debian
	@$(RUN) -m pytest -n $(JOBS) --dist loadgroup $(ARGS)

test-matrix: install ## Run some tests on each combination of versions that this machine holds (CELLS="oldest newest")
	@$(RUN) -m tests.matrix $(CELLS) --jobs $(JOBS) $(ARGS)

test-unit: install $(GO_TOOLS) ## Run the quick tests only
	@$(RUN) -m pytest -n auto --dist loadgroup -m "not slow" tests/unit tests/contract $(ARGS)

e2e: install $(HELM) ## Install, upgrade and roll back the chart on kubectl's cluster under load; run a short chaos test
	@$(RUN) -m tests.e2e.cluster $(CASES)
	@$(if $(CASES),,$(RUN) -m tests.fault_injection.cluster --short)

e2e-autoscale: install $(HELM) ## Compare scaling by queue depth, by CPU and by LLEN on a cluster with KEDA (TASKS=2000)
	@$(RUN) -m tests.e2e.cluster.autoscale

e2e-mailing: install $(HELM) ## Mail 10,000 by a slow server, with one pod and with up to 8, on a cluster with KEDA (MAILS=10000)
	@$(RUN) -m tests.e2e.cluster.mailing

e2e-scaling: install $(HELM) ## Pause a queue under load, and scale in beside busy pods, on a cluster with KEDA (TASKS=1500)
	@$(RUN) -m tests.e2e.cluster.scaling

chaos: install $(HELM) ## Break pods, nodes and networks on a cluster with KEDA under load (SEED=, MINUTES=20, RATE=20)
	@$(RUN) -m tests.fault_injection.cluster $(if $(SEED),--seed $(SEED)) $(if $(SHORT),--short)

failover: install $(HELM) ## Kill the primaries of Postgres and Redis on a cluster under load (SEED=, TIMES=2, RATE=20)
	@$(RUN) -m tests.fault_injection.cluster.failover $(if $(SEED),--seed $(SEED))

backlog: install ## Let 50,000 tasks wait for ten minutes, with a FLUSHALL in the middle
	@BACKLOG_TASKS=50000 BACKLOG_SECONDS=600 $(RUN) -m pytest -s tests/reliability/test_backlog.py

soak: install ## Run under load and check that tables and indexes stay bounded (SOAK_MINUTES=15)
	@SOAK_MINUTES=$${SOAK_MINUTES:-15} $(RUN) -m pytest -s tests/reliability/test_housekeeping.py -k tables

bench: $(BENCH) $(BENCH_DJANGO6) ## Compare with Celery, Oban, Huey and eight others for docs/performance.md (N=10000, K=10)
	@UV_PROJECT_ENVIRONMENT=.tools/bench $(UV) sync --quiet --frozen --all-extras --all-groups
	@$(BENCH) -m bench.peers $(if $(filter file,$(origin N)),,--tasks $(N)) $(if $(K),--kills $(K)) $(ARGS)

bench-fanout: install ## Notify a million subscribers of a post, and others by slow SMTP, for docs/performance.md (N=1000000)
	@$(RUN) -m bench.fanout $(N) --write $(ARGS)

bench-flow: install ## Compare a call and a drain with those before flow control, and measure limits with 10,000 keys
	@$(RUN) -m bench.flow $(ARGS)

bench-ledger: install ## Measure the WAL and the server's CPU of a task, by message and by exchange (N=5000)
	@$(RUN) -m bench.ledger $(if $(filter file,$(origin N)),5000,$(N))

bench-operations: install ## Measure the operations pages and a scrape with a million task runs (N=1000000)
	@$(RUN) -m bench.operations $(N)

bench-retention: install ## Drop a day of a million ended runs under load (N=1000000)
	@$(RUN) -m bench.retention $(N)

screenshots: install ## Write screenshots of the operations pages to docs/images/
	@SCREENSHOTS=docs/images $(RUN) -m pytest -q tests/browser -k screenshots

ORACLE = $(RUN) -m tests.fault_injection.local $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) \
	$(if $(TASKS),--tasks $(TASKS))

reliability: install ## Kill workers, relay, Redis and Postgres; no task may be lost (SEED=, MINUTES=10, TASKS=20000)
	@$(ORACLE) ours

reliability-bundles: install ## Run the same test with all tasks in bundles
	@$(ORACLE) bundles

reliability-fanout: install ## Mail 100,000 recipients while workers are killed 10 times and Redis is flushed twice
	@FANOUT_RECIPIENTS=100000 FANOUT_KILLS=10 $(RUN) -m pytest -s tests/reliability/blog/test_fanout.py -k "kills_and_flushes" $(ARGS)

reliability-stock: install ## Run the same calls and faults with stock Celery, which loses some tasks
	@$(ORACLE) stock

reliability-mutations: install ## Run the same test with each guard switched off in turn, which it must notice
	@$(ORACLE) mutations

LIMITS = $(RUN) -m tests.fault_injection.limits $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES))

limits: install ## Kill workers under limits for 50 keys; no limit may be exceeded, no call lost (SEED=, MINUTES=5)
	@$(LIMITS) ours

limits-mutations: install ## Run it briefly with each guard of the limits switched off, which it must notice
	@$(LIMITS) mutations

UNIQUE = $(RUN) -m tests.fault_injection.unique $(if $(SEED),--seed $(SEED)) $(if $(WAVES),--waves $(WAVES))

unique: install ## Make 1,000 unique calls from 8 processes at once, ten times, beside celery-once and -singleton (SEED=)
	@$(UNIQUE) all

unique-mutations: install ## Run it briefly with each guard of unique calls switched off, which it must notice
	@$(UNIQUE) mutations

celery-suite: install ## Run Celery's integration suite with stock Celery and Pressroom; docs/celery.md explains differences
	@$(RUN) -m tests.celery_suite $(ARGS)

django-tasks-suite: install ## Run Django's own tests of its Tasks framework against ours; docs/django-tasks.md lists differences
	@$(RUN) -m tests.django_tasks_suite

ODD = $(RUN) -m tests.odd $(if $(SEED),--seed $(SEED)) $(if $(filter file,$(origin N)),,--calls $(N)) \
	$(if $(KINDS),--kinds $(KINDS)) $(if $(WITHOUT),--without $(WITHOUT))

odd: install ## Mix odd calls with plain ones; each must end and stop no other (N=2000, SEED=, KINDS=, WITHOUT=)
	@$(ODD)

odd-mutations: install ## Run it briefly without isolation and without the dispatch counter, which it must notice
	@$(ODD) mutations

audit: $(UV) ## Fail if a package in uv.lock has a known vulnerability, which OSV lists, and name it
	@$(UV) audit --frozen --preview-features audit-command $(ARGS)

release-files: install $(HELM) ## Write the files of a release into FOLDER=dist, with the chart's default IMAGE=
	@HELM=$(HELM) $(RUN) deploy/release.py files "$(IMAGE)" "$(or $(FOLDER),dist)"

api-fuzz: install ## Send odd requests to the API as each role and check the answers with OpenAPI (MINUTES=15, SEED=)
	@FUZZ_MINUTES=$(or $(MINUTES),15) $(if $(SEED),FUZZ_SEED=$(SEED)) $(RUN) -m pytest -s tests/fuzz $(ARGS)

lint: install ## Check formatting, lint rules, types and layers
	@.venv/bin/ruff format --check --quiet . || { echo "ruff format: run \`make format\`" >&2; exit 1; }
	@.venv/bin/ruff check --quiet .
	@report=$$(.venv/bin/lint-imports --no-logo) || { echo "$$report"; exit 1; }
	@.venv/bin/mypy

format: install ## Format the code and apply ruff's fixes
	@.venv/bin/ruff check --quiet --fix-only .
	@.venv/bin/ruff format --quiet .

update: install $(HELM) $(HELM_DOCS) ## Regenerate the generated files
	@$(RUN) -m app.local.generated write

verify: install $(HELM) $(HELM_DOCS) ## Fail if a generated file is stale
	@$(RUN) -m app.local.generated verify

# ---- Tools -----------------------------------------------------------------------------------------------------------

install: $(UV) ## Install everything from uv.lock into .venv/, except for what only `make bench` needs
	@$(UV) sync --quiet --frozen --all-extras --all-groups --no-group bench $(call interpreter)

# --inexact keeps the packages that only `make test` needs.
install-local: $(UV)
	@$(UV) sync --quiet --frozen --inexact --extra local $(call interpreter)

# An existing virtual environment keeps its interpreter.
interpreter = $(if $(wildcard .venv/bin/python),,--python "$$(.tools/bin/python -c 'import sys; print(sys.executable)')")

$(UV): .tools/uv-$(UV_VERSION)

.tools/uv-$(UV_VERSION):
	@for python in $(PYTHON) python3.13 python3.12 python3.11 python3.14 python3 python; do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			"$$python" -m venv --clear .tools && \
			.tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION) && \
			touch $@; exit; \
		fi; \
	done; \
	echo "Python 3.11 or later is needed: make PYTHON=/path/to/python" >&2; exit 1

# Oban and Django 6 need Python 3.12. All queues are measured with the same Python, if possible the image's (3.13).
$(BENCH): | $(UV)
	@for python in $(PYTHON) python3.13 python3.12 python3.14 $(wildcard $(HOME)/.pyenv/versions/3.1[2-9].*/bin/python); do \
		if found=$$("$$python" -c 'import sys; print(sys.executable) if sys.version_info >= (3, 12) else sys.exit(1)' 2>/dev/null); then \
			exec $(UV) venv --quiet --python "$$found" .tools/bench; \
		fi; \
	done; \
	echo "Python 3.12 or later is needed: make bench PYTHON=/path/to/python" >&2; exit 1

$(BENCH_DJANGO6): bench/peers/django6.txt | $(BENCH)
	@$(UV) venv --quiet --clear --python $(BENCH) $(@D)
	@# The site holds Django to the LTS in its own settings of uv.
	@$(UV) pip install --quiet --no-config --python $(@D)/bin/python --requirement $<
	@touch $@

# Built if Go is installed. Without Go, the tests that need these tools are skipped with a reason.
$(STRIPE_MOCK): package := github.com/stripe/stripe-mock@v$(STRIPE_MOCK_VERSION)
$(HELM): package := helm.sh/helm/v4/cmd/helm@v$(HELM_VERSION)
$(HELM3): package := helm.sh/helm/v3/cmd/helm@v$(HELM3_VERSION)
$(KUSTOMIZE): package := sigs.k8s.io/kustomize/kustomize/v5@v$(KUSTOMIZE_VERSION)
$(KUBECONFORM): package := github.com/yannh/kubeconform/cmd/kubeconform@v$(KUBECONFORM_VERSION)
$(HELM_DOCS): package := github.com/norwoodj/helm-docs/cmd/helm-docs@v$(HELM_DOCS_VERSION)
$(ACTIONLINT): package := github.com/rhysd/actionlint/cmd/actionlint@v$(ACTIONLINT_VERSION)
$(KUBE_SCORE): package := github.com/zegl/kube-score/cmd/kube-score@v$(KUBE_SCORE_VERSION)
$(GO_TOOLS): | $(UV)
	@if command -v go >/dev/null; then \
		echo "building $(@F) (once)"; CGO_ENABLED=0 GOBIN="$(CURDIR)/$(@D)" go install $(package); \
	fi

clean: ## Remove .venv/, .tools/ and caches, but keep the data in var/
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
