#!/bin/sh
# Makes the user without rights as whom the tests also run, when they are run as root: tests/offline/test-user.sh OFFLINE_REPO DIR
# OFFLINE_REPO is the program offline-repo, DIR what its set-up made. Does nothing for other users: they are without rights.
set -eu
[ "$(id -u)" -eq 0 ] || exit 0
program=$1
directory=$2
user=ocinitrd-test

id "$user" > /dev/null 2>&1 || useradd --create-home --shell /bin/sh "$user"
for file in /etc/subuid /etc/subgid; do
    grep -q "^$user:" "$file" 2> /dev/null || echo "$user:900000:65536" >> "$file"
done
mkdir -p "/run/$user"
chown "$user:" "/run/$user"
chmod 0700 "/run/$user"

# The checkout may lie where only root may look: the program and the images are handed over by way of a public directory.
public=$(mktemp -d /var/tmp/ocinitrd-test.XXXXXX)
trap 'rm -rf "$public"' EXIT
chmod 0755 "$public"
cp "$program" "$public/offline-repo"
for file in builder-dnf4.oci.tar builder-dnf5.oci.tar builder.toml builder-dnf4.toml; do
    cp --reflink=auto "$directory/$file" "$public/"
done
cd /
runuser -u "$user" -- env -i "HOME=/home/$user" "XDG_RUNTIME_DIR=/run/$user" PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin \
    "$public/offline-repo" load --dir "$public" --builder all
