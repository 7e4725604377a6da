# Where Debian's packages come from; sourced by bash.

# debian_source SUITE: a line of sources.list(5), for the archive of DEBIAN_MIRROR or of this machine's apt.
debian_source() {
    local site=${DEBIAN_MIRROR-}
    [ -n "$site" ] || site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | sed 's,/*$,,' | grep -m 1 '/debian$') || true
    [ -n "$site" ] || { echo "$0: Debian's archive is not known: set DEBIAN_MIRROR to the address of a mirror" >&2; return 1; }
    echo "deb [signed-by=$(debian_keyring)] $site $1 main"
}

# The offline repository's set-up has found a newer one, where it was needed.
debian_keyring() {
    local newer=${OCINITRD_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ocinitrd-tests}/apt/archive-keyring.gpg
    if [ -e "$newer" ]; then echo "$newer"; else echo /usr/share/keyrings/debian-archive-keyring.gpg; fi
}
