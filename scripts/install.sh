#!/bin/sh
# Installs what was built: DESTDIR=DIR PREFIX=DIR scripts/install.sh PROGRAM MANUAL
# MANUAL is a directory that ocinitrd-manual wrote. packaging/ocinitrd.spec installs by this too.
set -eu
program=$1
manual=$2
destination=${DESTDIR:-}
prefix=${PREFIX:-/usr/local}
# kernel-install(8) looks nowhere else: /etc is the place of what no package brings.
plugins=${KERNEL_INSTALL_DIR:-/etc/kernel/install.d}
[ "$prefix" != /usr ] || plugins=${KERNEL_INSTALL_DIR:-/usr/lib/kernel/install.d}

# put MODE DIRECTORY FILE...: copies files to where they belong.
put() {
    mode=$1 directory=$destination$2
    shift 2
    mkdir -p "$directory"
    for file in "$@"; do
        install -m "$mode" "$file" "$directory/"
    done
}

put 0755 "$prefix/bin" "$program"
put 0644 "$prefix/share/man/man1" "$manual"/man1/*.1
put 0644 "$prefix/share/bash-completion/completions" "$manual/completions/ocinitrd.bash"
put 0644 "$prefix/share/zsh/site-functions" "$manual/completions/_ocinitrd"
put 0644 "$prefix/share/fish/vendor_completions.d" "$manual/completions/ocinitrd.fish"
put 0644 "$prefix/share/doc/ocinitrd" README.md CHANGELOG.md docs/*.md
put 0644 "$prefix/share/licenses/ocinitrd" LICENSE

# The images, but for that of the tests; of a file's mode it counts whether it is executable.
images=$prefix/share/ocinitrd/images
put 0644 "$images" images/fedora-44.toml images/centos-stream-10.toml
find images/parts -type f | LC_ALL=C sort | while read -r file; do
    mode=0644
    [ ! -x "$file" ] || mode=0755
    put "$mode" "$prefix/share/ocinitrd/$(dirname "$file")" "$file"
done

# Scriptlets of packages have a path of their own: the plugins name the program by where it is.
for plugin in packaging/kernel-install/*.install; do
    put 0755 "$plugins" "$plugin"
    sed -i "s|exec ocinitrd |exec $prefix/bin/ocinitrd |" "$destination$plugins/${plugin##*/}"
done

# Hooks of kernel packages, where those are Debian's: other distributions run what is in these directories for other ends.
debian_hooks=${DEBIAN_HOOKS:-no}
[ -n "${DEBIAN_HOOKS:-}" ] || [ ! -e "$destination/etc/debian_version" ] || debian_hooks=yes
if [ "$debian_hooks" = yes ]; then
    for hook in kernel/postinst.d kernel/postrm.d initramfs/post-update.d; do
        put 0755 "/etc/$hook" "packaging/debian/etc/$hook/ocinitrd"
        sed -i "s|^program=ocinitrd\$|program=$prefix/bin/ocinitrd|" "$destination/etc/$hook/ocinitrd"
    done
fi
