# shellcheck shell=bash
# Owners of files where nothing can be given to anybody, since only one user is mapped: in a user namespace of a build
# system. All files are root's there, and get their owners in the archive: as the packages have them, and systemd-tmpfiles.
# Part of install.sh: uses $root, archive, tmpfiles.

# Sets one_owner, and has rpm take every user for root if it is set.
prepare_owners() {
    one_owner=
    : > owner-probe
    if ! chown 1:1 owner-probe 2> /dev/null; then
        one_owner=1
        printf '%%_passwd_path %s\n%%_group_path %s\n' "$PWD/no-passwd" "$PWD/no-group" >> "$HOME/.rpmmacros"
    fi
}

# COMMAND...: runs it; if there is one owner, while every user and group of the tree is that one.
everything_is_roots() {
    if [ -z "$one_owner" ]; then
        "$@"
        return
    fi
    local file
    for file in passwd group; do cp "$root/etc/$file" "true-$file"; done
    sed -i 's/^\([^:]*:[^:]*\):[0-9]*:[0-9]*:/\1:0:0:/' "$root/etc/passwd"
    sed -i 's/^\([^:]*:[^:]*\):[0-9]*:/\1:0:/' "$root/etc/group"
    "$@"
    for file in passwd group; do cat "true-$file" > "$root/etc/$file"; done
}

# Prints USER GROUP PATH for what is not all root's: what packages say, then what tmpfiles.d(5) does.
owners() {
    rpm --root "$root" -qa --qf '[%{FILEUSERNAME} %{FILEGROUPNAME} %{FILENAMES}\n]' | { grep -v '^root root ' || true; }
    local type path mode user group rest
    tmpfiles --cat-config | while read -r type path mode user group rest; do
        case $type in '' | '#'*) continue ;; esac
        case $path in /tmp/* | /run/* | /proc/* | /sys/* | /dev/* | *[%*?[\"\']*) continue ;; esac
        user=${user#:} group=${group#:}
        case $user in '' | -) user=root ;; esac
        case $group in '' | -) group=root ;; esac
        [ "$user $group" = 'root root' ] || echo "$user $group $path"
    done
}

# ID-FILE: prints NAME ID of a file like passwd or group.
ids() {
    cut -d: -f1,3 --output-delimiter=' ' "$root/etc/$1"
}

# Leaves owned/UID:GID with the paths that belong to these, and owned/all with all of them.
sort_by_owner() {
    local -A uid=([root]=0) gid=([root]=0) owner=()
    local name id user group path
    while read -r name id; do uid[$name]=$id; done < <(ids passwd)
    while read -r name id; do gid[$name]=$id; done < <(ids group)
    while read -r user group path; do
        [ -e "$root$path" ] || [ -L "$root$path" ] || continue
        owner[.$path]=${uid[$user]:-0}:${gid[$group]:-0}
    done < <(owners)
    mkdir owned
    : > owned/all
    for path in "${!owner[@]}"; do
        [ "${owner[$path]}" != 0:0 ] || continue
        echo "$path" >> "owned/${owner[$path]}"
        echo "$path" >> owned/all
    done
}

archive_with_owners() {
    sort_by_owner
    (cd "$root" && find . | LC_ALL=C sort) | { grep -v -x -F -f owned/all || true; } > owned/nobodys
    archive --create --no-recursion --verbatim-files-from --files-from=owned/nobodys
    local list owner
    for list in owned/*:*; do
        [ -e "$list" ] || continue
        owner=${list#owned/}
        archive --append --no-recursion --owner=":${owner%:*}" --group=":${owner#*:}" --verbatim-files-from \
            --files-from="$list"
    done
}
