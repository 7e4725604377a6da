# The two commands: `make initrd` builds the default image, `make test` runs all tests. `make help` lists the others.

OCINITRD = target/release/ocinitrd
IMAGE ?=
SECONDS ?= 60
DESTDIR ?=
PREFIX ?= /usr/local
DEB_PROGRAMS = dpkg-shlibdeps
CHECK_PROGRAMS = cc libc-headers fsck.vfat openssl sfdisk
BUILD_PROGRAMS = cc libc-headers podman crun newuidmap qemu-system-x86_64
OFFLINE_PROGRAMS = $(BUILD_PROGRAMS) apt-get mmdebstrap debian-archive-keyring createrepo_c rpmsign gpg
MATRIX_PROGRAMS = $(DEB_PROGRAMS) ip
TEST_PROGRAMS = $(OFFLINE_PROGRAMS) $(CHECK_PROGRAMS) bsdtar bzip2 c++ cpio depmod dracut faketime firmware-keys kernel-install lz4 mandoc mkinitramfs pkcs11-engine registry-server rpm rpmbuild rpmlint runuser sbsign skopeo softhsm2-util strace strip swtpm uefi-firmware xz zstd
# The programs of administrators, such as depmod, are not on everyone's path.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

# Tests that this user, or this distribution, cannot run: they are left out, and that is said.
SKIP = $(strip $(if $(filter-out 0,$(shell id -u)),--skip as_root::) \
	$(if $(shell PATH='$(PATH)' command -v mkinitramfs),,--skip initramfs_tools))

# Tests spend time waiting, for containers and for timeouts of guests: one more than there are processors keeps these busy.
THREADS ?= $(shell expr $$(nproc) + 1)

# What other tests, or measurements, run as a process of its own.
NOT_TESTS = engine::a_run_that_sleeps modules::measure

.PHONY: help initrd offline build install deb sources check test test-matrix fuzz bench format clean rust check-programs build-programs offline-programs deb-programs matrix-programs test-programs

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

initrd: rust build-programs ## build the default image (or IMAGE=NAME) into out/
	@[ -e $(OCINITRD) ] || echo "compiling ocinitrd, which takes some minutes the first time"
	@cargo build --release --quiet
	@scripts/initrd.sh $(OCINITRD) $(IMAGE)

offline: rust offline-programs ## make the offline images' repositories and builder image
	@tests/offline/host-setup.sh
	@cargo run --release --quiet --package offline-repo -- setup

build: rust ## compile the program, and write its manual pages and completions into target/manual
	cargo build --release --locked --package ocinitrd --package ocinitrd-manual
	target/release/ocinitrd-manual target/manual

install: ## install what `make build` made, below DESTDIR if given, in PREFIX (/usr/local)
	@[ -x $(OCINITRD) ] && [ -d target/manual/man1 ] || { echo "there is nothing to install yet: run make build" >&2; exit 1; }
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' scripts/install.sh $(OCINITRD) target/manual

deb: build deb-programs ## Debian's package of it into out/
	@mkdir -p out
	scripts/deb.sh $(OCINITRD) target/manual out/

sources: rust ## the sources of the packages into out/sources: of what is committed, and its crates
	@scripts/sources.sh out/sources

check: rust check-programs ## the quick part, for every commit: format, lints, unit tests
	@scripts/rust.sh fmt clippy
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets --locked -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' cargo doc --quiet --locked --no-deps --workspace
	cargo test --quiet --locked --workspace --lib --bins --test walls

test: rust test-programs check ## all tests: needs podman and QEMU, installs what is missing
	scripts/deny.sh
	scripts/fuzz.sh --check
	@tests/offline/host-setup.sh
	cargo build --quiet --locked --package offline-repo
	target/debug/offline-repo setup --builder all
	@tests/offline/test-user.sh target/debug/offline-repo target/offline
	@for recipe in host-trixie rpm-sid stubs-bookworm; do tests/distributions/image.sh $$recipe > /dev/null || exit 1; done
	@[ -z "$(SKIP)" ] || echo "left out, because they take root or what this distribution does not have: $(SKIP)"
	cargo test --locked --test integration -- --test-threads $(THREADS) $(SKIP)

test-matrix: test matrix-programs ## what is too long for every change
	@for recipe in host-sid grub-sid; do tests/distributions/image.sh $$recipe > /dev/null || exit 1; done
	cargo test --locked --test integration -- --ignored $(NOT_TESTS:%=--skip %)
	scripts/fuzz.sh $(SECONDS)

fuzz: rust ## random bytes for every reader of foreign ones, SECONDS=60 for each
	scripts/fuzz.sh $(SECONDS)

bench: rust test-programs offline ## the measurements of docs/benchmarks.md
	cargo build --release --locked
	tests/bench/run.sh $(OCINITRD)

format: ## format the code
	cargo fmt --all

clean: ## remove what was built or made in the checkout
	cargo clean
	rm -rf out

rust:
	@scripts/rust.sh

check-programs:
	@scripts/require.sh $(CHECK_PROGRAMS)

build-programs:
	@scripts/require.sh $(BUILD_PROGRAMS)

offline-programs:
	@scripts/require.sh $(OFFLINE_PROGRAMS)

deb-programs:
	@scripts/require.sh $(DEB_PROGRAMS)

matrix-programs:
	@scripts/require.sh $(MATRIX_PROGRAMS)

test-programs:
	@scripts/require.sh $(TEST_PROGRAMS)
